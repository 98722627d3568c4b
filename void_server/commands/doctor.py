"""What this machine can do, and what it lacks, each with its remedy.

What comes in: nothing but the machine. What goes out: a list of findings. It changes nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import void_server
from void_server import engine as engines
from void_server.daemon.store import survey
from void_server.image.review import movie
from void_server.wire.errors import VoidError

LIBRARIES = ("pyzmq", "msgpack", "numpy", "OpenEXR", "opencv-python-headless", "fileseq", "tqdm")
OPTIONAL = ("torch", "diffusers", "transformers", "accelerate")
LEAST_FREE_BYTES = 10 << 30


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing looked at. A required one that is not ok keeps shots from being done here."""

    what: str
    ok: bool
    detail: str
    required: bool = True
    hint: str = ""

    def to_wire(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def examine(data: Path | None = None) -> list[Finding]:
    """Look at everything, and at what a daemon keeps in `data`. Takes a second or two, longer where torch is there."""
    findings = [
        Finding("void-server", True, f"{void_server.__version__} on Python {platform.python_version()}, {sys.platform}")
    ]
    findings += [_library(name, required=True) for name in LIBRARIES]
    findings += [_library(name, required=False) for name in OPTIONAL]
    findings.append(_exr_round_trip())
    for name in engines.names():
        try:
            answer = engines.available(name, None)
            findings.append(Finding(f"engine {name}", answer.ok, answer.reason, required=name == "propagate"))
        except VoidError as error:
            findings.append(Finding(f"engine {name}", False, error.message, required=False, hint=error.hint))
    encoder = shutil.which("ffmpeg")
    findings.append(
        Finding("ffmpeg", bool(encoder), encoder or "previews come without a movie", required=False, hint=movie.REMEDY)
    )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    findings.append(
        Finding(
            "disk", free > LEAST_FREE_BYTES, f"{free / 2**30:.0f} GiB free for temporary files", required=False,
            hint="Set TMPDIR to a larger disk.",
        )
    )  # fmt: skip
    findings.append(Finding("processors", True, f"{os.cpu_count()}"))
    findings += [
        Finding(what, ok, detail, required=False, hint=hint) for what, ok, detail, hint in survey.examine(data)
    ]
    return findings


def verdict(findings: list[Finding]) -> str:
    """One line: ready, and for which engines; or not ready, and everything that keeps it so."""
    lacking = [f"{finding.what}: {finding.detail}" for finding in findings if finding.required and not finding.ok]
    if lacking:
        return f"not ready because {'; '.join(lacking)}"
    engine = "engine "
    able = [f.what.removeprefix(engine) for f in findings if f.what.startswith(engine) and f.ok]
    unable = [f.what.removeprefix(engine) for f in findings if f.what.startswith(engine) and not f.ok]
    without = f"; engine {', '.join(unable)} can't run here, see above" if unable else ""
    return f"ready, with engine {', '.join(able)}{without}"


def spoken(findings: list[Finding]) -> str:
    """Findings as lines: what is well, what is missing, and the remedy; the verdict last."""
    lines = []
    for finding in findings:
        mark = "ok      " if finding.ok else ("MISSING " if finding.required else "absent  ")
        lines.append(f"{mark}{finding.what:<24}{finding.detail}")
        if not finding.ok and finding.hint:
            lines.append(f"{'':<8}{'':<24}{finding.hint}")
    return "\n".join([*lines, verdict(findings)])


def _library(name: str, *, required: bool) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name), required)
    except importlib.metadata.PackageNotFoundError:
        remedy = (
            "Install void-server again, from its clone or wheel."
            if required
            else "pip install 'void-server[void]' (for engine void)"
        )
        return Finding(name, False, "not installed", required, remedy)


def _exr_round_trip() -> Finding:
    """Write and read one small EXR, since a broken wheel shows only then."""
    from void_server.commands.demo import shot as demo_shot
    from void_server.image import exr

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.exr"
            demo_shot.write_probe(path)
            shape = exr.read_rgb(exr.read_plate_header(path)).shape
    except (VoidError, OSError) as error:
        return Finding("EXR files", False, str(error), hint="Reinstall OpenEXR: pip install --force-reinstall OpenEXR")
    return Finding("EXR files", True, f"written and read back, {shape[1]}x{shape[0]}")
