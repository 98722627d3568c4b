"""A client at an address where no daemon answers, or one that is not to be believed."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading

import msgpack
import pytest
import zmq

from void_server.wire import transfer
from void_server.wire.client import Client
from void_server.wire.errors import ProtocolError, SettingsError, UnreachableError, WireError, from_wire, to_wire
from void_server.wire.shot import ShotFiles, ShotSettings


def test_a_daemon_that_offers_unsafe_names_is_not_believed(tmp_path):
    moved = transfer.Transfer(None, "j", lambda: False, 1.0)
    for name in ("../x", "/x", ".hidden", "a/b", "", "-rf"):
        with pytest.raises(ProtocolError):
            moved.fetch(transfer.Result(name, 0, ""), tmp_path, lambda count: None)


def test_nobody_there_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"tcp://127.0.0.1:{port}", timeout_s=60.0) as client, pytest.raises(UnreachableError, match="Nobody"):
        client.hello()


NO_FILES_LEFT = """
import os, resource
from void_server.wire.client import Client
from void_server.wire.errors import UnreachableError
client = Client("tcp://127.0.0.1:9")
last = os.dup(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (last + 7, last + 7))
try:
    client.hello()
except UnreachableError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how many descriptors zmq takes was counted on Linux")
def test_a_process_without_a_free_descriptor_is_told_so():
    done = subprocess.run([sys.executable, "-c", NO_FILES_LEFT], capture_output=True, text=True, check=True)
    assert "Too many open files" in done.stdout


def test_something_else_at_the_address_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        def serve():
            line, _ = listener.accept()
            line.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            line.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(address, timeout_s=10.0) as client, pytest.raises(WireError):
            client.hello()
        thread.join()


def test_somebody_who_never_answers_is_given_up_on():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with Client(address, timeout_s=0.2) as client, pytest.raises(UnreachableError, match="within"):
            client.hello()


@pytest.mark.parametrize("address", ["127.0.0.1:5790", "tcp://host", "http://host:1", "tcp://host:99999", ""])
def test_a_bad_address_is_named(address):
    with pytest.raises(SettingsError):
        Client(address)


OK = {"job": "j", "name": "n", "state": "done", "created": 1.0}
HELLO = {
    "protocol": 2, "server_version": "x", "boot_id": "b", "limits": {}, "engines": [], "devices": [], "time": 1.0
}  # fmt: skip
RECEIVING = {**OK, "state": "receiving"}


def results(*rows):
    return {
        "results": ("results_reply", {"job": OK, "files": list(rows)}),
        "get": ("get_reply", {"name": "x", "offset": 0}),
    }


def offers(*offsets):
    return {
        "submit": ("submit_reply", {"job": RECEIVING, "offsets": list(offsets)}),
        "start": ("start_reply", {"job": OK}),
    }


NONSENSE = {
    "limits that are text": ("hello", {"hello": ("hello_reply", {**HELLO, "limits": {"a": "b"}})}),
    "a status of nothing": ("status", {"status": ("status_reply", {"job": {}})}),
    "warnings that are a number": ("status", {"status": ("status_reply", {"job": {**OK, "warnings": 5}})}),
    "a stage that is a list": ("status", {"status": ("status_reply", {"job": {**OK, "stage": [1]}})}),
    "a state that is a list": ("status", {"status": ("status_reply", {"job": {**OK, "state": [1]}})}),
    "a result above the folder": ("fetch", results(["../x", 2, "0" * 64])),
    "a result of one column": ("fetch", results(["x"])),
    "a size that is text": ("fetch", results(["x", "2", "0" * 64])),
    "a size below nothing": ("fetch", results(["x", -5, "0" * 64])),
    "a size beyond all disks": ("fetch", results(["x", 2**60, "0" * 64])),
    "a name that is a number": ("fetch", results([5, 2, "0" * 64])),
    "offsets for no file": ("submit", offers()),
    "offsets that are text": ("submit", offers("x", "y")),
    "an offset beyond the file": ("submit", offers(10**9, 0)),
    "a file that was not offered": (
        "submit", {**offers(-2, -2), "bind": ("bind_reply", {"lacking": [[99, 0]]})}
    ),
    "a lacking that is a number": ("submit", {**offers(-2, -2), "bind": ("bind_reply", {"lacking": [5]})}),
}  # fmt: skip


@contextlib.contextmanager
def daemon_that_answers(answers):
    """The address of somebody who gives to each type of request always the same answer."""
    answers = {"hello": ("hello_reply", HELLO), **answers}
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            if router.poll(50):
                identity, _, header, *_ = router.recv_multipart()
                asked = msgpack.unpackb(header)
                type_, fields = answers[asked["type"]]
                frames = [b"VOID1", msgpack.packb({"type": type_, "request": asked["request"], **fields})]
                router.send_multipart([identity, *frames, *([b"zz"] if type_ == "get_reply" else [])])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join()
        context.destroy(linger=0)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_daemon_that_answers_nonsense_is_told_apart_from_a_bug_here(tmp_path, nonsense):
    what, answers = NONSENSE[nonsense]
    for name in ("plate", "matte"):
        (tmp_path / f"{name}.exr").write_bytes(b"light")
    files = ShotFiles(plate={1: tmp_path / "plate.exr"}, matte={1: tmp_path / "matte.exr"})
    with (
        daemon_that_answers(answers) as address,
        Client(address, timeout_s=5.0, patience_s=1.0) as client,
        pytest.raises(ProtocolError),
    ):
        {
            "hello": client.hello,
            "status": lambda: client.status("j"),
            "fetch": lambda: client.fetch("j", tmp_path / "out"),
            "submit": lambda: client.submit(files, ShotSettings()),
        }[what]()
    assert not list(tmp_path.glob("out/*")) and not (tmp_path / "x").exists()


def test_a_job_that_is_over_is_not_waited_for_though_its_last_event_never_comes():
    # So a daemon stands that lost its database: it counts events anew, below what this client has heard.
    answers = {"watch": ("watch_reply", {"job": OK}), "status": ("status_reply", {"job": OK})}
    with daemon_that_answers(answers) as address, Client(address, timeout_s=5.0, patience_s=1.0) as client:
        assert client.watch("j").state == "done"


def test_an_error_from_elsewhere_can_t_steer_a_terminal():
    error = from_wire({"code": "x", "message": "m\x1b[31m\x07\nn", "hint": "h\x00"})
    assert (error.message, error.hint) == ("m?[31m?\nn", "h?")


def test_an_older_daemon_is_not_asked_for_what_it_would_ignore(tmp_path):
    for name in ("plate.1001.exr", "matte.1001.exr"):
        (tmp_path / name).write_bytes(b"x")
    files = ShotFiles(plate={1001: tmp_path / "plate.1001.exr"}, matte={1001: tmp_path / "matte.1001.exr"})
    older = "hello_reply", {**HELLO, "settings": [name for name in ShotSettings().to_wire() if name != "quality"]}
    refusal = "error", to_wire(SettingsError("Asked.", "For real."))
    with daemon_that_answers({"hello": older, "submit": refusal}) as address, Client(address) as client:
        with pytest.raises(SettingsError, match=r"does not know quality\.") as told:
            client.submit(files, ShotSettings(quality="draft"))
        assert "Update the daemon" in told.value.hint
        with pytest.raises(SettingsError, match="Asked"):
            client.submit(files, ShotSettings(seed=3))
