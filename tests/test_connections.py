"""Connections are known by descriptors that libzmq closes without asking: by then the number may be a file's."""

from __future__ import annotations

import os

import psutil

from void_server.daemon.connections import Connections


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
