"""Threads of one process share a few heaps instead of keeping one each."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNTED = """
import ctypes, sys, tempfile, threading
if "share" in sys.argv:
    from void_server.process import limit_malloc_arenas
    limit_malloc_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = libc.fdopen.restype = ctypes.c_void_p
here = threading.Barrier(8)
def hold():
    here.wait()
    libc.malloc(ctypes.c_size_t(1000))
    here.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
with tempfile.NamedTemporaryFile() as told:
    stream = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(told.read().count(b"<heap nr="))
"""


def _heaps(*words: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNTED, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps a heap for each thread")
def test_eight_threads_share_two_heaps() -> None:
    assert _heaps() > 2
    assert _heaps("share") == 2
