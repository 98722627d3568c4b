"""What `void-server bench` runs: one of its measurements.

What comes in: which one, a folder of test clips, names of cases (their forms stand in `bench_cases`). What goes out:
fields for --json, and a table as text. It measures nothing itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from void_server.wire.errors import SettingsError
from void_server.wire.report import Report


def speed_of(
    plate: str | None, matte: str | None, affected: str | None, engine: str, report: Report
) -> tuple[dict[str, Any], str]:
    """Where the time of one shot goes. Raises SettingsError without a shot, and what the shot itself raises."""
    from void_server.bench import speed
    from void_server.shot import check
    from void_server.wire.shot import ShotSettings

    if plate is None or matte is None:
        raise SettingsError("There is no shot to time.", "Write: void-server bench speed PLATE --matte MATTE")
    return speed.run(check.find_files(plate, matte, affected=affected), ShotSettings(engine=engine), report)


def run(
    what: str,
    data: Path | None,
    cases: Sequence[str] | None,
    report: Report,
    *,
    removal: bool = False,
    half: str | None = None,
    keep_work: Path | None = None,
    released: Path | None = None,
    shots: Path | None = None,
    methods: Sequence[str] | None = None,
) -> tuple[dict[str, Any], str]:
    """(fields for --json, text). Raises SettingsError for a missing folder or case."""
    if what == "wire":
        from void_server.bench.wire import measure_wire

        with tempfile.TemporaryDirectory(prefix="void-bench-") as folder:
            figures = measure_wire(Path(folder))
        return figures, "\n".join(f"{name:32s} {value}" for name, value in figures.items())
    if what == "void":
        return _void(released, cases, report)
    if shots is not None or methods or (what == "removal" and data is None and half is None):
        return _shots(what, data, shots, cases, methods, report, keep_work)
    if data is None or not data.is_dir():
        raise SettingsError("The folder of test clips is not there.", "Give it with --data DIR.")
    if what == "effects":
        from void_server.bench import effects as bench_effects

        done = bench_effects.run(data, cases, report, removal=removal, keep_work=keep_work)
    elif what == "native":
        from void_server.bench.engines import native as bench_native

        done = bench_native.run(data, cases, report, keep_work=keep_work)
    elif what == "removal":
        from void_server.bench import removal as bench_removal

        done = bench_removal.run(data, cases, report, half=half, keep_work=keep_work)
    else:
        from void_server.bench.engines import propagate as bench_propagate

        done = bench_propagate.run(data, cases, report, keep_work=keep_work)
    return done


def _shots(
    what: str,
    data: Path | None,
    shots: Path | None,
    cases: Sequence[str] | None,
    methods: Sequence[str] | None,
    report: Report,
    keep_work: Path | None,
) -> tuple[dict[str, Any], str]:
    if what != "removal" or data is not None:
        raise SettingsError(
            "--shots and --method are for removal from shots with known answers.",
            "Write: void-server bench removal --shots FOLDER, without --data.",
        )
    from void_server.bench.known import known_removal, known_shots

    return known_removal.run(shots or known_shots.SHIPPED, cases, methods, report, keep_work)


def _void(released: Path | None, cases: Sequence[str] | None, report: Report) -> tuple[dict[str, Any], str]:
    try:
        from void_server.bench.engines import void
    except ImportError as error:
        raise SettingsError(f"bench void needs torch: {error}.", "pip install 'void-server[void]'.") from error
    return void.run(released, cases, report)
