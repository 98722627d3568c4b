"""A client that keeps no rule: whatever frames it likes, in whatever order, read or not read."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
import zlib
from typing import Any

import msgpack
import zmq

from void_server.wire.messages import MAGIC
from void_server.wire.shot import ShotSettings
from void_server.wire.transfer import sample_offsets

Files = list[tuple[str, int, bytes]]


class RawClient:
    """A DEALER with msgpack; nothing is checked on this side."""

    def __init__(self, address: str, keys: tuple[bytes, bytes, bytes] | None = None, rcvhwm: int | None = None) -> None:
        """keys: (own public, own secret, the daemon's public)."""
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 20_000)
        if rcvhwm is not None:
            self.socket.setsockopt(zmq.RCVHWM, rcvhwm)
        if keys:
            self.socket.curve_publickey, self.socket.curve_secretkey, self.socket.curve_serverkey = keys
        self.socket.connect(address)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def send(
        self, type_: str, fields: dict[str, Any] | None = None, buffer: bytes | None = None, request: str | None = None
    ) -> str:
        request = request or uuid.uuid4().hex
        header = msgpack.packb({"type": type_, "request": request, **(fields or {})}, use_bin_type=True)
        self.socket.send_multipart([MAGIC, header] if buffer is None else [MAGIC, header, buffer])
        return request

    def receive(self, timeout_s: float = 10.0) -> dict[str, Any] | None:
        if not self.socket.poll(int(1000 * timeout_s)):
            return None
        frames = self.socket.recv_multipart()
        header: dict[str, Any] = msgpack.unpackb(frames[1])
        if len(frames) > 2:
            header["buffer"] = frames[2]
        return header

    def call(
        self,
        type_: str,
        fields: dict[str, Any] | None = None,
        buffer: bytes | None = None,
        request: str | None = None,
        timeout_s: float = 20.0,
    ) -> dict[str, Any]:
        """Send a request and wait for its answer, whatever else comes before."""
        request = self.send(type_, fields, buffer, request)
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            answer = self.receive(left)
            if answer is not None and answer["request"] == request:
                return answer
        raise AssertionError(f"no answer to {type_}")

    def submit(self, files: Files, request: str | None = None, **settings: Any) -> str:
        """Ask for a job without sending a byte; returns it."""
        fields = {"name": "raw", "settings": ShotSettings(**settings).to_wire(), "files": rows(files)}
        answer = self.call("submit", fields, request=request)
        assert answer["type"] == "submit_reply", answer
        return str(answer["job"]["job"])

    def send_files(self, job: str, files: Files) -> None:
        for number, (_, _, data) in enumerate(files):
            self.send("put", {"job": job, "file": number, "offset": 0, "crc32": zlib.crc32(data)}, data)
            if number % 32 == 31:
                self._take_answers(32)
        self._take_answers(len(files) % 32)

    def upload(self, files: Files, *, start: bool = True, **settings: Any) -> str:
        """A whole small shot, sent and started; returns its job."""
        job = self.submit(files, **settings)
        self.send_files(job, files)
        if start:
            assert self.call("start", {"job": job})["type"] == "start_reply"
        return job

    def state(self, job: str) -> str:
        return str(self.call("status", {"job": job})["job"]["state"])

    def _take_answers(self, count: int) -> None:
        for _ in range(count):
            answer = self.receive()
            assert answer and answer["type"] == "put_reply" and not answer["again"], answer


def junk(frames: int = 2, size: int = 2000) -> Files:
    """A shot of noise, as (role, frame, content)."""
    return [(role, 1001 + frame, os.urandom(size)) for frame in range(frames) for role in ("plate", "matte")]


def rows(files: Files) -> list[list[Any]]:
    """Files as `submit` names them."""
    return [[role, frame, f"{role}.{frame}.exr", len(d), fingerprint(d), 0, ""] for role, frame, d in files]


def fingerprint(data: bytes) -> str:
    digest = hashlib.sha256(str(len(data)).encode())
    for offset in sample_offsets(len(data)):
        digest.update(data[offset : offset + (1 << 16)])
    return digest.hexdigest()[:32]
