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

LEAST_BYTES = 1 << 16
"""Arrays smaller than this are sent as bytes: a mapping costs as much as copying some ten pages."""
MOST_MAPPED = 16_384
"""The system allows a process 65,530 mappings (vm.max_map_count), and its memory allocator needs some as well: more
arrays than this at a time are copied."""
_mapped: set[int] = set()
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
    if not large:
        pipe.send((head.getvalue(), []))
        return
    try:
        descriptor = os.memfd_create("void-arrays", os.MFD_CLOEXEC)
    except OSError:
        head = io.BytesIO()
        ForkingPickler(head, 5).dump(thing)
        pipe.send((head.getvalue(), []))
        return
    try:
        sizes = [raw.nbytes for raw in large]
        for raw, start in zip(large, _starts(sizes)):
            _written(descriptor, raw, start)
        pipe.send((head.getvalue(), sizes))
        with socket.socket(fileno=os.dup(pipe.fileno())) as end:
            socket.send_fds(end, [b"a"], [descriptor])
    finally:
        os.close(descriptor)


def receive(pipe: Connection) -> Any:
    """What `send` was given at the other end. Raises EOFError or OSError where that is gone, or where this process may
    open no more files."""
    head, sizes = pipe.recv()
    if not sizes:
        return ForkingPickler.loads(head)
    with socket.socket(fileno=os.dup(pipe.fileno())) as end:
        descriptors = socket.recv_fds(end, 1, 1)[1]
    if not descriptors:
        raise EOFError
    try:
        views = [_view(descriptors[0], size, start) for size, start in zip(sizes, _starts(sizes))]
    finally:
        os.close(descriptors[0])
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


def _written(descriptor: int, raw: memoryview, start: int) -> None:
    done = 0
    while done < raw.nbytes:
        done += os.pwrite(descriptor, raw[done:], start + done)


def _view(descriptor: int, size: int, start: int) -> memoryview:
    """Memory of this process alone, until the last that refers to it is gone.

    Not by `mmap.mmap`: before Python 3.13 that keeps a descriptor open as long, and a shot has thousands of arrays.
    """
    address = _FAILED
    if len(_mapped) < MOST_MAPPED:
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = int(_libc().mmap(None, size, access, _PRIVATE, descriptor, start))
    if address == _FAILED:
        return memoryview(bytearray(os.pread(descriptor, size, start)))
    _mapped.add(address)
    room = (ctypes.c_char * size).from_address(address)
    weakref.finalize(room, _let_go, address, size).atexit = False
    return memoryview(room).cast("B")


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
