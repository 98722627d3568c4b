"""Messages and EXR headers that nobody thought of: made by hypothesis, refused or understood, never anything else."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path

import hypothesis
import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests import exr_files
from tests.exr_files import part, write
from void_server.daemon.store.frame_table import JobFile
from void_server.daemon.store.store import Store
from void_server.image import exr
from void_server.wire import messages
from void_server.wire.errors import PlateError, ProtocolError, VoidError, from_wire, to_wire
from void_server.wire.jobs import JobStatus
from void_server.wire.messages import FINAL, KINDS, LIMITS, MAGIC
from void_server.wire.shot import Window

settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("house")

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=10), inner, max_size=6),
    max_leaves=12,
)
field_names = sorted({name for kind in KINDS.values() for name in kind.fields})
headers = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(KINDS)) | st.text(max_size=9), "request": st.text(max_size=70) | plain},
    optional=dict.fromkeys(field_names, plain),
)


def understood_or_refused(frames):
    try:
        message = messages.unpack(frames)
    except ProtocolError:
        assert isinstance(messages.request_of(frames), str)
        return
    again = messages.unpack(messages.pack(message.type, message.request, message.fields, message.buffer))
    assert (again.type, again.request) == (message.type, message.request)


@given(headers, st.none() | st.binary(max_size=64))
def test_any_header_is_understood_or_refused(header, buffer):
    understood_or_refused([MAGIC, msgpack.packb(header), *([] if buffer is None else [buffer])])


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_frames_are_understood_or_refused(frames):
    understood_or_refused(frames)


@given(headers, st.data())
def test_any_cut_or_changed_header_is_understood_or_refused(header, data):
    raw = bytearray(msgpack.packb(header))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    understood_or_refused([MAGIC, bytes(raw[: data.draw(st.integers(0, len(raw)))])])


@given(st.dictionaries(st.sampled_from([*JobStatus.__dataclass_fields__, "x"]), plain))
def test_any_status_is_believed_or_refused_and_what_is_believed_fits_into_a_message(fields):
    try:
        status = JobStatus.from_wire(fields)
    except ProtocolError:
        return
    status.final  # noqa: B018 - it must not raise
    assert all(len(warning) <= LIMITS["text_chars"].value for warning in status.to_wire()["warnings"])


@given(st.text(), st.text(st.characters(), max_size=6000), st.text(st.characters()), st.none() | st.integers())
def test_any_error_fits_into_a_message_and_steers_no_terminal(code, message, hint, frame):
    error = from_wire({"code": code, "message": message, "hint": hint, "frame": frame})
    fields = to_wire(error)
    messages.pack("error", "r", {**fields, "code": "x"})
    assert all(letter.isprintable() or letter in "\n\t" for letter in error.message + error.hint)


class JobLife(RuleBasedStateMachine):
    """Changes of a job in any order: only what the states allow ever happens, and its events say all of it."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "db")
        self.job = self.store.submit(
            "o", "r", {"name": "n", "settings": {}}, [JobFile(0, "plate", 1, "p", 10, "0" * 32, 0, None, None)]
        )
        self.state, self.attempt = "receiving", 0

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(to=st.sampled_from(["queued", "done", "failed", "cancelled"]), since=st.sets(
        st.sampled_from(["receiving", "queued", "running"]), min_size=1))  # fmt: skip
    def move(self, to, since):
        error = PlateError("p") if to == "failed" else None
        moved = self.store.move(self.job, to, since=tuple(since), error=error)
        assert moved == (self.state in since)
        self.state = to if moved else self.state

    @rule()
    def begin(self):
        found = self.store.begin_attempt(self.job)
        assert (found is not None) == (self.state == "queued")
        if found:
            self.state, self.attempt = "running", self.attempt + 1
            assert found == self.attempt

    @precondition(lambda self: self.state == "running")
    @rule(frame=st.integers(1, 5))
    def finish(self, frame):
        self.store.add_results(self.job, self.attempt, [(f"clean.{frame:04d}.exr", 5, "h")], {"event": "frame"})

    @rule(refuse=st.booleans())
    def change_together_with_one_that_is_refused(self, refuse):
        def refused(store):
            store.move(self.job, "failed", since=("receiving", "queued", "running"))
            raise ProtocolError("no")

        before = len(self.store.events(self.job, 0, 10_000))
        outcomes = self.store.batch([refused if refuse else (lambda store: 1), lambda store: 2])
        assert outcomes[1] == 2 and (isinstance(outcomes[0], VoidError) == refuse)
        assert len(self.store.events(self.job, 0, 10_000)) == before

    @invariant()
    def the_store_knows_what_happened(self):
        status = self.store.status(self.job)
        assert (status.state, status.attempt) == (self.state, self.attempt)
        events = [event for _, event in self.store.events(self.job, 0, 10_000) if event["event"] == "state"]
        assert events[-1]["state"] == self.state
        assert sum(event["state"] in FINAL for event in events) <= 1
        assert status.frames_done == len([r for r in self.store.results(self.job) if r[0].startswith("clean.")])


JobLife.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None, derandomize=True)
TestJobLife = JobLife.TestCase


@settings(max_examples=150)
@given(st.data())
def test_any_change_of_an_exr_is_read_or_refused_by_name(data):
    with tempfile.TemporaryDirectory() as folder:
        codec, halves = data.draw(st.sampled_from([0, 1, 3])), dict.fromkeys("RGB", "half")
        path = write(
            Path(folder) / "plate.exr",
            part(Window(-3, 5, 20, 30), halves, compression=codec),
        )
        raw = bytearray(path.read_bytes())
        head = exr_files.header_end(bytes(raw))
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, head + 200 if data.draw(st.booleans()) else len(raw) - 1)) % len(raw)
            kind = data.draw(st.sampled_from(["byte", "int", "cut", "twice", "swap"]))
            if kind == "byte":
                raw[at] = data.draw(st.integers(0, 255))
            elif kind == "int":
                raw[at : at + 4] = struct.pack("<i", data.draw(st.sampled_from([-1, 0, 1, 2**31 - 1, -(2**31), 65536])))
            elif kind == "cut":
                del raw[at : at + data.draw(st.integers(1, 40))]
            elif kind == "twice":
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 40))]
            else:
                raw[at : at + 8] = raw[at : at + 8][::-1]
        path.write_bytes(raw)
        with contextlib.suppress(PlateError):
            header = exr.read_plate_header(path)
            pixels = exr.read_rgb(header)
            assert pixels.shape[:2] == (header.data_window.height, header.data_window.width)


def test_hypothesis_repeats_itself():
    """The same examples on every machine, so that a failure is everybody's."""
    assert settings.default.derandomize and hypothesis.settings.default.database is None
