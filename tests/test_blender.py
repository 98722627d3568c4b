"""The Blender add-on in the real Blender: 4.5 LTS and 5.x, the zip installed by Blender's own installer.

One process a version tries every claim of `tests/blender_scripts/claims_*.py`; each is reported here under its own
name. The Blenders are the `bpy` wheels. VOID_BLENDER45_PYTHON and VOID_BLENDER5_PYTHON name Pythons that have them (and
OpenEXR, which judges pixels); without them virtual environments are made once, in the user's cache folder, where a
fitting Python is there. On CI a missing Blender is a failure and never a skip.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_shot
from void_server import cli

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(__file__).resolve().parent / "blender_scripts"
BLENDERS = {
    "4.5": ("VOID_BLENDER45_PYTHON", "3.11", "bpy==4.5.15"),
    "5": ("VOID_BLENDER5_PYTHON", "3.13", "bpy==5.2.3"),
}
JUDGE = "OpenEXR>=3.5.3,<3.6"
CLAIMS = [
    node.name
    for path in sorted(SCRIPTS.glob("claims_*.py"))
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("claim_")
]


def blender_python(version):
    """A Python that has this Blender; made if need be. Skips with the reason where it can't be had, but not on CI."""
    variable, python, wheel = BLENDERS[version]
    if os.environ.get(variable):
        return os.environ[variable]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "void-tests" / wheel.replace("==", "-")
    program = cache / "bin/python"
    if not (cache / "complete").is_file():
        base = _python(python)
        if base is None:
            return _none(f"no Python {python} for {wheel}; name one that has it in {variable}")
        shutil.rmtree(cache, ignore_errors=True)
        subprocess.run([base, "-m", "venv", str(cache)], check=True)
        words = [str(program), "-m", "pip", "install", "--quiet", wheel, JUDGE]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            return _none(f"{wheel} can't be installed: {done.stderr.strip()[-300:]}")
        (cache / "complete").touch()
    return str(program)


def _python(version):
    named = Path.home() / ".pyenv/versions"
    found = [*sorted(named.glob(f"{version}.*/bin/python")), *filter(None, [shutil.which(f"python{version}")])]
    return str(found[0]) if found else None


def _none(reason):
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def built_zip(tmp_path_factory):
    """One zip for every Blender and every platform, made by the command that artists are told."""
    out = tmp_path_factory.mktemp("zip") / "void_inpaint.zip"
    assert cli.main(["install", "blender", "--zip", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def reports(built_zip, tmp_path_factory):
    """Tries every claim in one Blender, the first time one of them is asked for; returns {claim: error}."""
    tried = {}

    def of(version):
        if version not in tried:
            tried[version] = _try_all(blender_python(version), built_zip, tmp_path_factory.mktemp(f"blender{version}"))
        return tried[version]

    return of


def _try_all(python, built_zip, folder):
    shot = tiny_shot.write(folder / "shot")
    np.save(folder / "truth.npy", shot.truth)
    resources = folder / "resources"
    given = {
        "zip": str(built_zip), "shot": str(shot.folder), "truth": str(folder / "truth.npy"), "python": sys.executable,
        "root": str(ROOT), "resources": str(resources), "folder": str(folder / "claims"),
        "report": str(folder / "report.jsonl"), "only": os.environ.get("VOID_BLENDER_CLAIM", ""),
    }  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER", "VIRTUAL_ENV"))}
    environment |= {"BLENDER_USER_RESOURCES": str(resources), "OMP_NUM_THREADS": "2"}
    with (folder / "blender.log").open("w") as log:
        subprocess.run(
            [python, str(SCRIPTS / "run_claims.py"), json.dumps(given)],
            env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=800, check=False,
        )  # fmt: skip
    report = folder / "report.jsonl"
    lines = [json.loads(line) for line in report.read_text().splitlines()] if report.is_file() else []
    errors = {line["claim"]: line["error"] for line in lines}
    if not any(errors.values()):
        shutil.rmtree(folder / "claims", ignore_errors=True)  # sixteen daemons, with the room that each holds back
    return errors, (folder / "blender.log").read_text()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("claim", ["install", *CLAIMS])
@pytest.mark.parametrize("version", BLENDERS)
def test_in_the_real_blender(reports, version, claim):
    errors, log = reports(version)
    assert claim in errors, f"Blender went away before this claim:\n{log[-3000:]}"
    assert not errors[claim], f"{errors[claim]}\nThe end of what Blender printed:\n{log[-3000:]}"


def _extension_tool(version):
    """Blender's own command for extensions, a script of its own."""
    find = "import importlib.util; print(importlib.util.find_spec('bpy').submodule_search_locations[0])"
    words = [blender_python(version), "-c", find]
    package = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    (tool,) = Path(package).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    return tool


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", BLENDERS)
def test_blenders_own_tool_finds_nothing_wrong_with_the_zip(built_zip, version):
    words = [blender_python(version), str(_extension_tool(version)), "validate", str(built_zip)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize("version", BLENDERS)
def test_blender_takes_the_zip_for_the_python_of_every_blender(built_zip, version):
    """Blender reads Pythons from the names of all wheels together; one that it does not find there it refuses."""
    ask = "import sys, blender_ext; print(sorted(blender_ext.python_versions_from_wheels(sys.argv[1:])))"
    with zipfile.ZipFile(built_zip) as archive:
        names = [Path(name).name for name in archive.namelist() if name.endswith(".whl")]
    done = subprocess.run(
        [blender_python(version), "-c", ask, *names],
        env={"PYTHONPATH": str(_extension_tool(version).parent)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ast.literal_eval(done.stdout) == [(3, 11), (3, 13), (3, 14)]
