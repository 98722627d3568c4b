"""The wheel: what is in it, what is not, how large it is; and that the lock and the container go with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 16_000_000
MOST_BYTES_WITHOUT_DATA = 1_500_000
PREDICTOR = "void_server/effects/predictor.onnx"
SHOT = "void_server/bench/known/shipped/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    return next(out.glob("*.whl"))


def test_it_is_small_but_for_the_predictor_and_one_shot(wheel):
    with zipfile.ZipFile(wheel) as archive:
        data = [one for one in archive.infolist() if one.filename == PREDICTOR or one.filename.startswith(SHOT)]
    shots = {one.filename.split("/")[4] for one in data if one.filename.startswith(SHOT)}
    assert shots == {"soft_shadow-1"} and len(data) > 2
    assert wheel.stat().st_size <= MOST_BYTES
    assert wheel.stat().st_size - sum(one.compress_size for one in data) <= MOST_BYTES_WITHOUT_DATA


def test_no_training_no_tests_no_compiled_files_are_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"void_server"}
    assert not [name for name in names if "training" in name or "/test" in name or name.endswith((".pyc", ".cu"))]
    assert "void_server/hosts/plugins/nuke/void_nuke/host.py" in names


def locked() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", text, re.M))


def test_the_lock_holds_everything_that_void_needs_in_a_version_that_is_taken():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = locked()
    for text in (*project["dependencies"], *project["optional-dependencies"]["void"]):
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name.lower())
        assert Version(pins[name]) in wanted.specifier, f"{text}: the lock has {pins.get(name)}"


def test_every_package_of_the_lock_is_pinned_by_hash():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^[a-z0-9.-]+==.*\n(?:    .*\n)*", text, re.M)
    assert len(blocks) == len(locked()) > 50
    assert all("--hash=sha256:" in block for block in blocks)


def test_what_the_container_copies_is_there_and_what_it_runs_is_a_command():
    from void_server import cli

    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    words = re.findall(r'"([^"]+)"', re.search(r"^CMD \[(.*)\]", text, re.M)[1])
    args = cli._parser().parse_args(words)
    assert args.bind == "tcp://0.0.0.0:5790"
    # A wheel is built of these alone, so whatever the build asks for must be copied.
    for folder in ("void_server", "plugins", "gizmos"):
        assert f"COPY {folder} /src/{folder}" in text


def test_what_is_installed_packs_into_the_same_wheel_again(wheel, tmp_path):
    site, again = tmp_path / "site", tmp_path / "again"
    again.mkdir()
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(words, check=True, capture_output=True)
    code = (
        "import sys; from pathlib import Path; import void_server\n"
        "from void_server.commands.installation import wheels\n"
        "assert void_server.__file__.startswith(sys.argv[2]), void_server.__file__\n"
        "print(wheels.packed(Path(sys.argv[1]), 'void-server'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(again), str(site)], check=True, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    with zipfile.ZipFile(done.stdout.strip()) as packed, zipfile.ZipFile(wheel) as given:
        held = {name: given.read(name) for name in given.namelist() if not name.endswith("RECORD")}
        assert {name: packed.read(name) for name in packed.namelist() if not name.endswith("RECORD")} == held
    subprocess.run(
        [*words[:-2], str(tmp_path / "third"), done.stdout.strip()], check=True, capture_output=True
    )  # pip checks no more than that it can be installed
