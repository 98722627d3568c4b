"""A daemon whose jobs wait for a file before they begin: tests decide when a job goes on.

What comes in: an address to bind and a data folder as arguments, and `VOID_TEST_GATE`, the file. What goes out: a
daemon with the real pipeline behind the gate, and on standard output `{"ready": address}`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from void_server.daemon.config import DaemonConfig
from void_server.daemon.server import serve
from void_server.wire.report import Report
from void_server.wire.shot import ShotFiles, ShotSettings


def make(files: ShotFiles, settings: ShotSettings, out: Path, report: Report, *, found: Path) -> dict[str, Any]:
    """Wait for the gate, hearing cancel, then do what the daemon always does."""
    from void_server import pipeline

    report.progress("gate", 0, 1)
    pause = threading.Event()
    while not Path(os.environ["VOID_TEST_GATE"]).exists():
        report.check_cancelled()
        pause.wait(0.02)
    return pipeline.deliver(files, settings, out, report)


def _ready(address: str) -> None:
    sys.stdout.write(json.dumps({"ready": address}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    bind, data = sys.argv[1:]
    pipeline_name = "tests.fakes.gated_daemon:make"
    sys.exit(serve(DaemonConfig(bind=bind, data=Path(data), devices=("cpu",), pipeline=pipeline_name), ready=_ready))
