"""Send objects that hold large arrays to another process: the arrays go as memory that both see, not as bytes.

What comes in: an object, and one end of a `multiprocessing.Pipe`. What goes out: the same object at the other end. It
knows no pictures and starts no process. Linux alone.

A pipe carries some hundred kilobytes at a time, and whoever reads it holds the interpreter's lock meanwhile: sixteen
workers that each sent back 20 MB took longer to be heard than to compute. Here a sender copies each large array into an
unnamed file in memory (memfd_create(2)) and sends its descriptor; the receiver maps it. The mapping is private, so what
either changes later is seen by nobody else, and it costs a later fork nothing, as the system copies no page tables of
memory that a file holds (vma_needs_copy in Linux's mm/memory.c).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import mmap
import os
import socket
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 1 << 16
"""Arrays smaller than this are sent as bytes: a mapping costs as much as copying some ten pages."""
MOST_MAPPED = 16_384
"""The system allows a process 65,530 mappings (vm.max_map_count), and its memory allocator needs some as well: more
arrays than this at a time are copied."""
_mapped: set[int] = set()
_open: set[int] = set()
"""Descriptors of files in memory that are on their way."""
_CLOSED_ON_EXEC = 1
"""MFD_CLOEXEC. Source: memfd_create(2), linux/memfd.h."""
_PRIVATE = 2
"""MAP_PRIVATE. Source: mmap(2), linux/mman.h."""

_FAILED = ctypes.c_void_p(-1).value or -1


class _Buffer(Protocol):
    """An array's memory, as the pickler offers it (PEP 574)."""

    def raw(self) -> memoryview: ...


def send(pipe: Connection, thing: Any) -> None:
    """Raises OSError where the other end is gone, or no memory is left.

    Where the system gives no files in memory, as a container may that filters calls, all of it goes through the pipe.
    """
    large: list[memoryview] = []

    def goes_inside(buffer: _Buffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LEAST_BYTES:
            return True
        large.append(raw)
        return False

    head = io.BytesIO()
    ForkingPickler(head, 5, True, goes_inside).dump(thing)
    descriptor = _filled(large) if large else None
    if descriptor is None:
        if large:
            head = io.BytesIO()
            ForkingPickler(head, 5).dump(thing)
        pipe.send((head.getvalue(), []))
        return
    try:
        pipe.send((head.getvalue(), [raw.nbytes for raw in large]))
        with _socket_of(pipe) as end:
            socket.send_fds(end, [b"a"], [descriptor])
    finally:
        _close(descriptor)


def receive(pipe: Connection) -> Any:
    """What `send` was given at the other end. Raises EOFError or OSError where that is gone, or where this process may
    open no more files."""
    head, sizes = pipe.recv()
    if not sizes:
        return ForkingPickler.loads(head)
    with _socket_of(pipe) as end:
        descriptors = socket.recv_fds(end, 1, 1)[1]
    if not descriptors:
        raise EOFError
    _open.update(descriptors)
    try:
        views = [_view(descriptors[0], size, start) for size, start in zip(sizes, _starts(sizes))]
    finally:
        _close(descriptors[0])
    return ForkingPickler.loads(head, buffers=views)


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where in the file each array lies: at whole pages, so that each is mapped, and let go, by itself.

    >>> _starts([10, 5000, 1]) == [0, mmap.PAGESIZE, mmap.PAGESIZE * (1 + -(-5000 // mmap.PAGESIZE))]
    True
    """
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return starts


def _socket_of(pipe: Connection) -> socket.socket:
    end = socket.socket(fileno=os.dup(pipe.fileno()))
    # A time-out that a program sets for all its sockets would hold for the pipe from then on.
    end.setblocking(True)
    return end


def _filled(arrays: Sequence[memoryview]) -> int | None:
    """A file in memory that holds the arrays; None where the system gives none, or no room in it."""
    try:
        descriptor = _new_file()
    except (OSError, AttributeError):
        return None
    _open.add(descriptor)
    try:
        for raw, start in zip(arrays, _starts([raw.nbytes for raw in arrays])):
            done = 0
            while done < raw.nbytes:
                done += os.pwrite(descriptor, raw[done:], start + done)
    except OSError:
        _close(descriptor)
        return None
    return descriptor


def _new_file() -> int:
    make = getattr(os, "memfd_create", None)
    if make is not None:
        return int(make("void-arrays", _CLOSED_ON_EXEC))
    # Pythons that were built for old systems lack it; the C library that they meet here may have it.
    descriptor = int(_libc().memfd_create(b"void-arrays", _CLOSED_ON_EXEC))
    if descriptor < 0:
        raise OSError("the system gives no files in memory")
    return descriptor


def _close(descriptor: int) -> None:
    _open.discard(descriptor)
    os.close(descriptor)


def _close_inherited() -> None:
    """A process that is forked while a thread sends would keep that memory for as long as it lives."""
    for descriptor in list(_open):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def _view(descriptor: int, size: int, start: int) -> npt.NDArray[np.uint8]:
    """Memory of this process alone, until the last that refers to it is gone.

    Not by `mmap.mmap`: before Python 3.13 that keeps a descriptor open as long, and a shot has thousands of arrays.
    """
    address = _FAILED
    if len(_mapped) < MOST_MAPPED:
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = int(_libc().mmap(None, size, access, _PRIVATE, descriptor, start))
    if address == _FAILED:
        copied, done = np.empty(size, np.uint8), 0
        while done < size:
            done += os.preadv(descriptor, [copied.data[done:]], start + done)
        return copied
    _mapped.add(address)
    room = (ctypes.c_char * size).from_address(address)
    weakref.finalize(room, _let_go, address, size).atexit = False
    # An array, since the garbage collector takes no notice of one: what it finds in a circle loses its weak references,
    # and would lose its memory, before the circle's own last words.
    return np.frombuffer(memoryview(room).cast("B"), np.uint8)


def _let_go(address: int, size: int) -> None:
    # First: the system may give the same address again at once.
    _mapped.discard(address)
    _libc().munmap(address, size)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
