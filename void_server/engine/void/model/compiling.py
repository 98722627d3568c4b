"""The transformer's blocks compiled, once for a machine: what is compiled is kept on disk and outlives the process.

What comes in: a transformer. What goes out: the same, with faster blocks. It knows nothing of shots and cards.

All 42 blocks run the same code on the same shapes, so that one compilation serves them all. Sizes are left open: a shot
of another length or aspect compiles nothing anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def default_cache() -> Path:
    """A folder of the user who runs this: what lies in it is loaded as code."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "void-server" / "compiled"


def compile_blocks(
    transformer: torch.nn.Module,
    on_failure: Callable[[str], object] = lambda why: None,
    backend: str = "inductor",
    dynamic: bool | None = True,
) -> None:
    """Compile every block in place; the first call compiles. Where it can't be, blocks run as they are.

    on_failure: hears in one line why not, at most once. Sets TORCHINDUCTOR_CACHE_DIR where the user has not.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(default_cache()))
    shared = _Shared(on_failure)
    for block in transformer.transformer_blocks:
        # The method, not the module: hooks that bring weights to the card stay outside of what is compiled.
        block.forward = _Compiled(block.forward, shared, backend, dynamic)


class _Shared:
    """Whether compiling has failed, for all blocks together."""

    def __init__(self, on_failure: Callable[[str], object]) -> None:
        self.failed = False
        self._on_failure = on_failure
        self._lock = threading.Lock()

    def fail(self, error: Exception) -> None:
        with self._lock:
            if self.failed:
                return
            self.failed = True
        # The compiler's own frame around what went wrong ends with a colon.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith(":")]
        self._on_failure(lines[0] if lines else type(error).__name__)


def _by_itself(value: Any) -> Any:
    """A view as a tensor of its own: the first block is called with views, all others without, and what is compiled for
    the one would not serve the others."""
    if isinstance(value, torch.Tensor) and value._is_view():
        return value.clone(memory_format=torch.contiguous_format)
    return value


class _Compiled:
    def __init__(self, plain: Callable[..., Any], shared: _Shared, backend: str, dynamic: bool | None) -> None:
        self._plain = plain
        self._shared = shared
        self._fast = torch.compile(plain, backend=backend, dynamic=dynamic, fullgraph=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._shared.failed:
            try:
                return self._fast(*args, **{name: _by_itself(value) for name, value in kwargs.items()})
            except torch._dynamo.exc.TorchDynamoException as error:
                # No compiler on this machine, no room in the cache's folder: slower is better than not at all.
                self._shared.fail(error)
        return self._plain(*args, **kwargs)
