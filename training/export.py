"""Turn a checkpoint into the ONNX file that the wheel ships.

What comes in: a checkpoint of `train`. What goes out: one ONNX file, float32, any width and height that are multiples
of 32, and the largest difference between what it and torch answer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.network import FRAMES, Deployed, Network

INPUTS = {"plate": 3, "behind": 3, "matte": 1, "coverage": 1, "scatter": 1}
OUTPUTS = ("appearance", "attenuation", "physics", "cells")
OPSET = 17


def load(checkpoints: list[Path]) -> Network:
    """A network with the mean of the checkpoints' weights, ready to answer."""
    states = [torch.load(p, weights_only=True, map_location="cpu") for p in checkpoints]
    mean = {
        k: torch.stack([s[k].float() for s in states]).mean(0) if v.is_floating_point() else v
        for k, v in states[0].items()
    }
    network = Network()
    network.load_state_dict(mean)
    network.eval()
    return network


def export(network: Network, path: Path) -> float:
    """Write `path`; return the largest difference of any answer, torch against onnxruntime,
    at a size not exported at."""
    import onnxruntime

    deployed = Deployed(network).eval()
    example = tuple(torch.rand(FRAMES, c, 192, 320) for c in INPUTS.values())
    dynamic = {name: {2: "height", 3: "width"} for name in INPUTS}
    dynamic |= {name: {2: f"{name}_height", 3: f"{name}_width"} for name in OUTPUTS}
    torch.onnx.export(
        deployed,
        example,
        str(path),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes=dynamic,
        opset_version=OPSET,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    other = {name: torch.rand(FRAMES, c, 192, 256) for name, c in INPUTS.items()}
    with torch.no_grad():
        wanted = deployed(*other.values())
    got = session.run(None, {name: x.numpy() for name, x in other.items()})
    return max(float(np.abs(w.numpy() - g).max()) for w, g in zip(wanted, got))
