"""Connections are known by descriptors that libzmq closes without asking: by then the number may be a file's."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path

import psutil

from void_server.daemon.network.connections import Connections


def test_a_descriptor_that_became_a_files_is_let_go_again(tmp_path):
    gone = []
    connections = Connections(own_user_only=True, on_gone=gone.append)
    with (tmp_path / "frame.part").open("wb") as file:
        before = psutil.Process(os.getpid()).num_fds()
        for _ in range(20):
            connections.accepted(file.fileno())
            connections.heard(file.fileno(), 100)
            connections.check()
        assert psutil.Process(os.getpid()).num_fds() == before
        connections.gone(file.fileno())
        assert gone == [file.fileno()]


@contextlib.contextmanager
def no_descriptor_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 2
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def test_a_connection_is_cut_when_there_is_no_descriptor_left():
    """Strangers who come faster than they are counted use up every descriptor; the oldest must go all the same."""
    connections = Connections(own_user_only=True, on_gone=lambda _: None)
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname(), timeout=5) as stranger:
        line, _ = server.accept()
        with line, no_descriptor_left():
            connections.accepted(line.fileno())
            connections.cut(connections._all[line.fileno()])
            assert stranger.recv(1) == b""
