"""Every error has a message, a hint, a place, and survives the wire and a process border."""

from __future__ import annotations

import pickle
import re

import pytest

from void_server.wire import errors


@pytest.mark.parametrize("cls", list(errors.tree()))
def test_every_error_survives_the_wire_and_a_process_border(cls):
    error = cls("Plate frame 1042 is truncated.", "Render it again.", frame=1042, job="j1")
    for copy in (errors.from_wire(errors.to_wire(error)), pickle.loads(pickle.dumps(error))):
        assert type(copy) is cls
        assert (copy.message, copy.hint, copy.frame, copy.job) == (error.message, error.hint, 1042, "j1")


def test_codes_are_unique():
    codes = [cls.code for cls in errors.tree()]
    assert len(codes) == len(set(codes))


def test_an_error_of_a_newer_daemon_keeps_its_text():
    error = errors.from_wire({"code": "hologram", "message": "No hologram.", "hint": "Update."})
    assert type(error) is errors.VoidError
    assert str(error) == "No hologram. Update."


def test_the_drawn_tree_is_the_real_tree():
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+Error)", errors.__doc__ or "", re.M)
    shape = [(len(lead) // 4, name) for lead, name in drawn]

    def real(cls, depth=0):
        yield depth, cls.__name__
        for sub in cls.__subclasses__():
            yield from real(sub, depth + 1)

    assert shape == list(real(errors.VoidError))


def test_a_place_once_known_is_not_overwritten():
    with pytest.raises(errors.PlateError) as caught, errors.about(frame=1, job="j"):
        raise errors.PlateError("Bad.", frame=7)
    assert (caught.value.frame, caught.value.job) == (7, "j")
