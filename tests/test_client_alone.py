"""A client at an address where no daemon answers, or one that is not to be believed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from void_server.wire import transfer
from void_server.wire.client import Client
from void_server.wire.errors import ProtocolError, SettingsError, UnreachableError, WireError


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
