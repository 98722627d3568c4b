"""The zip that Blender installs: complete, reproducible, made without a network where wheels are at hand."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from packaging import tags, utils

import void_server
from void_server import cli
from void_server.commands.installation import blender as install_blender
from void_server.wire.errors import OutputError, SettingsError

ROOT = Path(__file__).resolve().parent.parent
ADDON = ROOT / "plugins/blender/void_inpaint"
MODULES = sorted(ADDON.glob("*.py"))
PLATFORM = "linux-x64"


def stand_in_wheels(folder):
    """Files that carry the names of wheels; pip looks at no more before Blender does."""
    folder.mkdir()
    for name, version, kinds in (
        ("pyzmq", "27.3.0", ("cp311-cp311", "cp312-abi3")),
        ("msgpack", "1.2.4", ("cp311-cp311", "cp313-cp313", "cp314-cp314")),
    ):
        for kind in kinds:
            tag = f"{kind}-manylinux_2_28_x86_64"
            with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
                info = f"{name}-{version}.dist-info"
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
                wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
    return folder


@pytest.fixture
def wheels(tmp_path):
    return stand_in_wheels(tmp_path / "wheels")


@pytest.fixture
def built(wheels, tmp_path):
    out = tmp_path / "deep/void_inpaint.zip"
    words = ["install", "blender", "--zip", str(out), "--platform", PLATFORM, "--wheels", str(wheels), "--json"]
    assert cli.main(words) == 0
    return out


def test_the_manifest_names_the_wheels_that_are_there(built):
    with zipfile.ZipFile(built) as archive:
        names, manifest = archive.namelist(), archive.read("blender_manifest.toml").decode()
    packed = {name for name in names if name.startswith("wheels/")}
    assert set(re.findall(r'"\./(wheels/[^"]+)"', manifest)) == packed
    assert len(packed) == 6
    assert f'version = "{void_server.__version__}"' in manifest
    assert f'platforms = ["{PLATFORM}"]' in manifest
    assert 'license = ["SPDX:GPL-3.0-or-later"]' in manifest
    assert {"LICENSE", *(path.name for path in MODULES)} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(".")]


@pytest.mark.parametrize("python", [(3, 11), (3, 13), (3, 14)])
def test_every_python_that_blender_runs_finds_one_wheel_of_each_kind(built, python):
    """3.11: Blender 4.5 and 5.0. 3.13: 5.1 on. 3.14: Blender as Debian builds it."""
    fits = set(tags.cpython_tags(python, platforms=["manylinux_2_28_x86_64"])) | set(tags.compatible_tags(python))
    with zipfile.ZipFile(built) as archive:
        wheels = [utils.parse_wheel_filename(Path(n).name) for n in archive.namelist() if n.endswith(".whl")]
    assert sorted(name for name, _, _, said in wheels if said & fits) == ["msgpack", "pyzmq", "void-server"]


def test_the_same_add_on_is_the_same_zip(built, wheels, tmp_path):
    again = install_blender.build_zip(tmp_path / "again.zip", (PLATFORM,), wheels)
    assert again.read_bytes() == built.read_bytes()


def test_the_own_wheel_holds_what_hosts_import_and_can_be_checked(tmp_path):
    wheel = install_blender.own_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        rows = archive.read(f"void_server-{void_server.__version__}.dist-info/RECORD").decode().splitlines()
    assert {"void_server/__init__.py", "void_server/wire/client.py"} <= names
    assert not [name for name in names if "daemon" in name or "engine" in name]
    assert {row.split(",")[0] for row in rows} == names


def test_wheels_that_lack_are_said_with_the_remedy_and_nothing_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"linux-x64, Python 3\.11, can't be had in .*empty") as caught:
        install_blender.build_zip(tmp_path / "out.zip", (PLATFORM,), tmp_path / "empty")
    assert "--wheels" in caught.value.hint
    assert not (tmp_path / "out.zip").exists()
    with pytest.raises(SettingsError, match="does not exist"):
        install_blender.build_zip(tmp_path / "out.zip", (PLATFORM,), tmp_path / "nowhere")


def test_a_place_that_can_not_be_written_is_said(wheels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"out\.zip can't be written"):
        install_blender.build_zip(tmp_path / "file/out.zip", (PLATFORM,), wheels)


def test_flags_of_another_host_are_refused(capsys, tmp_path):
    assert cli.main(["install", "nuke", "--zip", str(tmp_path / "x.zip")]) == 2
    assert cli.main(["install", "blender", "--uninstall"]) == 2
    assert cli.main(["install", "blender", "--blender", str(tmp_path / "none")]) == 2
    err = capsys.readouterr().err
    assert "are Blender's" in err and "--uninstall is not for Blender" in err and "Blender was not found at" in err


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Blender is a shell script")
@pytest.mark.parametrize(
    "status, said, remedy",
    [
        (0, "said", ""),
        (1, "ERROR: This Python version (3.12) isn't compatible with (3.11, 3.13, 3.14)", "3.11, 3.13, 3.14"),
        (1, "ERROR: This Blender version (4.2) isn't compatible", "Use Blender 4.5 or later."),
        (1, "ERROR: no space", "--zip FILE"),
    ],
)
def test_blenders_own_installer_gets_the_zip(wheels, tmp_path, monkeypatch, status, said, remedy):
    """The real installer is run in test_blender.py; this holds the words with which the program is called."""
    blender = tmp_path / "blender"
    copy = tmp_path / "copy.zip"
    blender.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/words\nfor z; do :; done\ncp "$z" {copy}\necho "{said}"\nexit {status}\n'
    )
    blender.chmod(0o755)
    monkeypatch.setattr(install_blender, "this_platform", lambda: PLATFORM)
    if status:
        with pytest.raises(SettingsError, match=re.escape(f"Blender refused the add-on: {said}")) as caught:
            install_blender.install(str(blender), wheels)
        assert remedy in caught.value.hint
    else:
        assert install_blender.install(str(blender), wheels) == "said"
    words = (tmp_path / "words").read_text().split()
    assert words[:-1] == ["--command", "extension", "install-file", "--repo", "user_default", "--enable"]
    assert zipfile.is_zipfile(copy)
    assert not os.path.exists(words[-1]) and shutil.which("sh")  # noqa: PTH110 - a text, not a path of ours


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_the_add_on_keeps_the_house_rules(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later\n")
    assert "What comes in" in (ast.get_docstring(tree) or "")
    assert text.count("\n") <= 400
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            used.add(node.module)
    ours = {name for name in used if name.split(".")[0] == "void_server"}
    assert all(name.startswith(("void_server.wire", "void_server.farm")) for name in ours), ours
    foreign = {name.split(".")[0] for name in used - ours} - set(sys.stdlib_module_names)
    assert foreign <= {"bpy", "gpu", "gpu_extras", "numpy"}, foreign
