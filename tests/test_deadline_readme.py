"""The farm's page is executed: its commands run, in its order, against the stand-ins and the real `openjd`."""

from __future__ import annotations

import re
import subprocess
import sys

from tests import farm_floor, tiny_shot

PAGE = (farm_floor.ROOT / "plugins/deadline/README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.S)


def test_the_pages_commands_run_in_its_order(tmp_path):
    (tmp_path / "plugins").symlink_to(farm_floor.ROOT / "plugins")
    tiny_shot.write(tmp_path / "shot")
    tiny_shot.write(tmp_path / "shots/s01", count=2)
    program = tmp_path / "deadlinecommand"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {farm_floor.ROOT}/tests/fakes/deadlinecommand.py "$@"\n')
    program.chmod(0o755)
    repository = tmp_path / "repository"
    environment = farm_floor.environment(
        REPOSITORY=repository, FAKE_DEADLINE_REPOSITORY=repository, DEADLINE_PATH=tmp_path
    )
    said = ""
    for block in BLOCKS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        said += done.stdout
    assert f"clean frames will be {tmp_path}/shot/clean/clean.####.exr" in said
    assert (repository / "custom/plugins/VoidInpaint/VoidInpaint.param").is_file()
    assert (tmp_path / "shot/clean3/manifest.json").is_file()
    assert (tmp_path / "shots_clean/s01/clean.1002.exr").is_file()
    assert "0 done, 0 failed, 0 started, 1 waiting" in said
    # Four jobs: a shot, its chunks, their assembly, a batch.
    assert len(list(repository.glob("*.json"))) == 4


def test_every_flag_on_the_page_is_one_of_the_commands():
    known = ""
    for name in ("submit", "bundle", "batch", "report", "task"):
        known += farm_floor.void_server("farm", name, "--help").stdout
    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)):
        assert flag in known, flag


def test_every_error_on_the_page_is_one_that_is_raised():
    source = "".join(path.read_text(encoding="utf-8") for path in (farm_floor.ROOT / "void_server").rglob("*.py"))
    source += (farm_floor.ROOT / "plugins/deadline/VoidInpaint/VoidInpaint.py").read_text(encoding="utf-8")
    rows = re.search(r"\| what you see.*?\n\n", PAGE, re.S)[0].strip().splitlines()[2:]
    for row in rows:
        words = re.sub(r"\.\.\.", "\n", row.split("`")[1])
        for part in (p.strip(" :;") for p in words.split("\n")):
            pieces = [p.strip() for p in re.split(r"\d[\dx-]*", part) if len(p.strip()) > 3]
            assert all(piece in source for piece in pieces), pieces
