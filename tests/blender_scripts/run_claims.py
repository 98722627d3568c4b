"""Runs inside Blender: installs the extension's zip with Blender's own installer, then tries one claim after another.

What comes in: a JSON text as the only argument. What goes out: one JSON line a claim in `GIVEN["report"]`, written as
soon as the claim is tried, so that a crash of Blender costs only what came after it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

import desk

CLAIMS = (
    "claims_install",
    "claims_strip",
    "claims_timeline",
    "claims_company",
    "claims_matte",
    "claims_run",
    "claims_words",
    "claims_daemon",
)


def install():
    assert bpy.ops.preferences.addon_enable(module="bl_pkg") == {"FINISHED"}
    done = bpy.ops.extensions.package_install_files(
        filepath=desk.GIVEN["zip"], repo="user_default", enable_on_install=True, overwrite=True
    )
    assert done == {"FINISHED"}, done


def main():
    import importlib

    folder, only = Path(desk.GIVEN["folder"]), desk.GIVEN.get("only")
    with Path(desk.GIVEN["report"]).open("a", encoding="utf-8") as report:

        def say(claim, error, seconds):
            report.write(json.dumps({"claim": claim, "error": error, "seconds": round(seconds, 2)}) + "\n")
            report.flush()

        started = time.monotonic()
        try:
            install()
        except BaseException:  # noqa: BLE001 - whatever it was, the session must hear it
            say("install", traceback.format_exc(), time.monotonic() - started)
            return
        say("install", "", time.monotonic() - started)
        daemon = desk.Daemon(folder / "daemon")
        try:
            for module in CLAIMS:
                for name, claim in list(vars(importlib.import_module(module)).items()):
                    if not name.startswith("claim_") or (only and only not in f"{module}.{name}"):
                        continue
                    started, own = time.monotonic(), None
                    try:
                        own = desk.Desk(folder / name, daemon)
                        claim(own)
                        error = ""
                    except BaseException:  # noqa: BLE001
                        error = traceback.format_exc()
                    finally:
                        if own is not None:
                            own.close()
                    say(name, error, time.monotonic() - started)
        finally:
            daemon.stop()


try:
    main()
finally:
    # Blender 4.5 as a module deadlocks at exit while classes of an add-on are registered; see blender issue 148959.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
