"""Netflix VOID as an engine: a video diffusion model that removes an object and what it did to the scene.

What comes in: a shot. What goes out: fills at the model's own size. This module imports nothing heavy: torch and
diffusers load with `VoidPipeline`, `VoidVae`, or the first shot, so that `VoidEngine.available` can say in words what a
machine lacks.

One arrow leaves the engine room besides those to `wire`: `effects.quadmask`, which alone builds quadmasks. VOID's mask
is made from the same two mattes for the model and for inspection, and must be the same picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from void_server.engine.void.engine import VoidEngine

if TYPE_CHECKING:
    from void_server.engine.void.model.vae import VoidVae
    from void_server.engine.void.passes.pipeline import VoidPipeline

__all__ = ["VoidEngine", "VoidPipeline", "VoidVae"]


def __getattr__(name: str) -> Any:
    if name == "VoidPipeline":
        from void_server.engine.void.passes.pipeline import VoidPipeline

        return VoidPipeline
    if name == "VoidVae":
        from void_server.engine.void.model.vae import VoidVae

        return VoidVae
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
