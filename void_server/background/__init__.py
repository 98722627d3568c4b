"""What lies behind everything that moves: recovered from other frames, once per shot and set of masks, for effects and
for every engine. `of` gives it."""

from void_server.background.background import Background, kept, of
from void_server.background.estimate import BackgroundEstimate

__all__ = ["Background", "BackgroundEstimate", "kept", "of"]
