"""A movie to look at, where this machine has an encoder: H.264 in MP4, through the `ffmpeg` command.

What comes in: 8-bit sRGB pictures, one at a time. What goes out: one file under its final name, or none and the reason.
A movie is a comfort: no encoder, or one that fails, never ends the work it shows. It knows no shot.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

FRAMES_PER_SECOND = Fraction(24)
FINISH_S = 120.0
"""Longest wait for the encoder once it has every frame: it lags by a few dozen, then moves the index to the front."""
DYING_S = 2.0
"""Longest wait for the last words of an encoder that takes no more frames."""
REMEDY = "The package ffmpeg brings one: apt install ffmpeg, dnf install ffmpeg, brew install ffmpeg."


class Movie:
    """Takes pictures of one size, hands each to the encoder at once and keeps none."""

    def __init__(self, path: Path, frames_per_second: Fraction = FRAMES_PER_SECOND) -> None:
        """Starts nothing yet: the first picture says how large all are."""
        self._rate = frames_per_second
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
        self._encoder: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile(prefix="void-movie-")  # noqa: SIM115 - closed with the movie
        self.trouble = ""
        """Why there is no movie; empty while all is well."""

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append one picture, uint8 [H, W, 3]. Blocks while the encoder is behind; does nothing after trouble."""
        if self._encoder is None and not self.trouble:
            self._start(*picture.shape[:2])
        if self.trouble or self._encoder is None or self._encoder.stdin is None:
            return
        try:
            self._encoder.stdin.write(np.ascontiguousarray(picture).tobytes())
        except OSError:
            self._give_up()

    def finish(self) -> None:
        """Wait for the encoder and put the movie under its final name."""
        if self.trouble or self._encoder is None:
            return
        try:
            # Closes its input, which ends the movie.
            self._encoder.communicate(timeout=FINISH_S)
            if self._encoder.returncode == 0:
                self._temporary.replace(self._path)
                return
        except (OSError, subprocess.TimeoutExpired):
            pass
        self._give_up()

    def close(self) -> None:
        """End the encoder if it still runs, and leave nothing half made behind."""
        if self._encoder is not None:
            self._encoder.kill()
            with contextlib.suppress(OSError):
                self._encoder.communicate()
        self._temporary.unlink(missing_ok=True)
        self._said.close()

    def _start(self, height: int, width: int) -> None:
        command = shutil.which("ffmpeg")
        if command is None:
            self.trouble = f"No {self._path.name}: there is no ffmpeg on the PATH. {REMEDY}"
            return
        taken = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._rate)]
        # Players take untagged movies for BT.709, where swscale would have made BT.601; 4:2:0 has even sides only.
        shaped = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
        tagged = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "iec61966-2-1"]
        coded = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-movflags", "+faststart", "-f", "mp4"]
        words = [command, "-loglevel", "error", *taken, "-i", "pipe:0", *shaped, *tagged, *coded, "-y"]
        try:
            # In a session of its own, a terminal's Ctrl-C reaches us alone, and we decide what becomes of the file.
            self._encoder = subprocess.Popen(
                [*words, str(self._temporary.absolute())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            self.trouble = f"No {self._path.name}: {command} can't be started: {error.strerror}. {REMEDY}"

    def _give_up(self) -> None:
        if self._encoder is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._encoder.wait(DYING_S)
        self._said.seek(0)
        lines = [line for line in self._said.read().decode("utf-8", "replace").splitlines() if line.strip()]
        why = " ".join(lines[0].split())[:200] if lines else "it said nothing"
        self.trouble = f"No {self._path.name}: ffmpeg gave up: {why}. It needs the encoder libx264. {REMEDY}"


@contextlib.contextmanager
def writing(path: Path, frames_per_second: Fraction = FRAMES_PER_SECOND) -> Iterator[Movie]:
    """A movie that is finished when the block ends well, and gone without a trace when it does not."""
    movie = Movie(path, frames_per_second)
    try:
        yield movie
        movie.finish()
    finally:
        movie.close()
