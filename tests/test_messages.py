"""The protocol's table: what packs, what is refused, and that bytes on the wire stay what they are."""

from __future__ import annotations

import msgpack
import pytest

from void_server.wire import messages
from void_server.wire.errors import ProtocolError
from void_server.wire.jobs import Hello, JobStatus
from void_server.wire.messages import FINAL, KINDS, LIMITS, MAGIC, STATES, pack, table_markdown, unpack

GOLDEN = {
    ("hello", "r1", '{"protocols": [1], "version": "0.1.0"}'): (
        "84a474797065a568656c6c6fa772657175657374a27231a970726f746f636f6c739101a776657273696f6ea5302e312e30"
    ),
    ("watch", "r2", '{"job": "j1", "after": 300}'): (
        "84a474797065a57761746368a772657175657374a27232a36a6f62a26a31a56166746572cd012c"
    ),
    ("put_reply", "r3", '{"file": 7, "offset": 1048576, "again": false}'): (
        "85a474797065a97075745f7265706c79a772657175657374a27233a466696c6507a66f6666736574ce00100000a5616761696ec2"
    ),
}


@pytest.mark.parametrize(("given", "golden"), GOLDEN.items(), ids=[key[0] for key in GOLDEN])
def test_bytes_on_the_wire_do_not_change(given, golden):
    import json

    type_, request, fields = given
    frames = pack(type_, request, json.loads(fields))
    assert frames == [MAGIC, bytes.fromhex(golden)]
    message = unpack(frames)
    assert (message.type, message.request, message.fields) == (type_, request, json.loads(fields))


def test_a_buffer_travels_beside_the_header():
    message = unpack(pack("put", "r", {"job": "j", "file": 0, "offset": 0}, b"\0EXR"))
    assert message.buffer == b"\0EXR"


def test_unknown_fields_are_ignored():
    assert unpack(pack("status", "r", {"job": "j", "from_the_future": 1}))["job"] == "j"


def test_an_optional_field_may_be_left_out_but_not_be_wrong():
    pack("put", "r", {"job": "j", "file": 0, "offset": 0}, b"")
    with pytest.raises(ProtocolError, match="'crc32'"):
        pack("put", "r", {"job": "j", "file": 0, "offset": 0, "crc32": 2**32}, b"")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "lacks 'job'"),
        ({"job": 7}, "'job' is int, not str"),
        ({"job": ""}, "out of bounds"),
        ({"job": "j" * 65}, "out of bounds"),
        ({"job": True}, "'job' is bool, not str"),
    ],
)
def test_a_wrong_field_is_named(fields, says):
    with pytest.raises(ProtocolError, match=says):
        pack("status", "r", fields)


@pytest.mark.parametrize("value", [True, -1, 2**63, 1.5, "0", None])
def test_a_number_out_of_bounds_is_refused(value):
    with pytest.raises(ProtocolError):
        pack("watch", "r", {"job": "j", "after": value})


def test_a_time_that_is_no_number_is_refused():
    hello = {
        "protocol": 1,
        "server_version": "0",
        "boot_id": "b",
        "limits": {},
        "engines": [],
        "devices": [],
        "time": float("nan"),
    }
    with pytest.raises(ProtocolError, match="'time'"):
        pack("hello_reply", "r", hello)
    assert Hello.from_wire({**hello, "time": 1.0}).boot_id == "b"


NOISE = {
    "nothing": [],
    "no header": [MAGIC],
    "another protocol": [b"HTTP1", b"\x80"],
    "nine frames": [b"\xc1"] * 9,
    "four frames": [MAGIC, b"\x80", b"", b""],
    "an empty header": [MAGIC, b""],
    "not msgpack": [MAGIC, b"\xc1"],
    "not a map": [MAGIC, b"\x93\x01\x02\x03"],
    "an array of 4 G items in 5 bytes": [MAGIC, b"\xdd\xff\xff\xff\xff"],
    "a map of 4 G keys in 5 bytes": [MAGIC, b"\xdf\xff\xff\xff\xff"],
    "a text of 4 GB in 5 bytes": [MAGIC, b"\xdb\xff\xff\xff\xff"],
    "bytes of 4 GB in 5 bytes": [MAGIC, b"\xc6\xff\xff\xff\xff"],
    "nesting 100,000 deep": [MAGIC, b"\x91" * 100_000],
    "maps nested 100,000 deep": [MAGIC, b"\x81\xa1a" * 100_000],
    "an extension": [MAGIC, b"\x81\xa1a\xd4\x01\x00"],
    "a map with a number for a key": [MAGIC, b"\x81\x01\x01"],
    "an array for a key": [MAGIC, b"\x81\x91\x01\x01"],
    "bytes after the end": [MAGIC, msgpack.packb({"type": "jobs", "request": "r"}) + b"\x00"],
    "broken text": [MAGIC, b"\x81\xa1a\xa1\xff"],
    "a type that is no text": [MAGIC, msgpack.packb({"type": 5, "request": "r"})],
    "an unknown type": [MAGIC, msgpack.packb({"type": "nope", "request": "r"})],
    "no request id": [MAGIC, msgpack.packb({"type": "jobs"})],
    "a request id of 65 characters": [MAGIC, msgpack.packb({"type": "jobs", "request": "r" * 65})],
    "a header beyond its limit": [MAGIC, b"\x00" * (LIMITS["header_bytes"].value + 1)],
    "a buffer nobody asked for": [MAGIC, msgpack.packb({"type": "jobs", "request": "r"}), b""],
    "a chunk beyond its limit": [
        MAGIC,
        msgpack.packb({"type": "put", "request": "r", "job": "j", "file": 0, "offset": 0}),
        bytes(LIMITS["chunk_bytes"].value + 1),
    ],
}


@pytest.mark.parametrize("frames", NOISE.values(), ids=NOISE.keys())
def test_noise_is_refused_as_such(frames):
    with pytest.raises(ProtocolError):
        unpack(frames)
    assert messages.request_of(frames) in ("", "r")


def test_every_request_has_an_answer_in_the_table():
    for name, kind in KINDS.items():
        assert kind.sender in ("client", "daemon")
        assert (kind.answer in KINDS) if kind.sender == "client" else kind.answer == "", name


def test_the_printed_table_names_every_message_state_and_limit():
    table = table_markdown()
    for name in [*KINDS, *STATES, *LIMITS]:
        assert f"| `{name}` |" in table
    assert set(FINAL) < set(STATES)
    for line in table.splitlines():
        assert not line or (line.startswith("|") and line.endswith("|"))


def test_a_status_survives_the_wire_with_its_error():
    from void_server.wire.errors import PlateError

    status = JobStatus(
        job="j", name="n", state="failed", created=1.0, error=PlateError("p", "h", frame=3), warnings=("w",)
    )
    back = JobStatus.from_wire({**status.to_wire(), "from_the_future": 1})
    assert back.final and back.warnings == ("w",)
    assert isinstance(back.error, PlateError) and back.error.frame == 3


@pytest.mark.parametrize("change", [{"state": "almost done"}, {"job": None}, {"done": "3"}, {"created": "now"}])
def test_a_status_that_makes_no_sense_is_not_believed(change):
    fields = JobStatus(job="j", name="n", state="done", created=1.0).to_wire()
    with pytest.raises(ProtocolError):
        JobStatus.from_wire({**fields, **change})
