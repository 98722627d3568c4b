"""One picture of an engine's fill and the background that other frames show: light from the one, detail from the other,
each as far as it is known to be right."""

from void_server.merge.picture import one_picture
from void_server.merge.request import widened

__all__ = ["one_picture", "widened"]
