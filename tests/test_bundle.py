"""A bundle for machines without internet, made from a folder of wheels; made from the index, it is in the TDs' page."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.test_install import write_wheel
from void_server import cli
from void_server.commands.installation import bundle


@pytest.fixture
def own(tmp_path):
    """A wheel of this name that needs one other."""
    path = tmp_path / "void_server-9.9-py3-none-any.whl"
    info = "void_server-9.9.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("void_server/__init__.py", "")
        needs = "Requires-Dist: msgpack\nProvides-Extra: void\nRequires-Dist: heavy; extra == 'void'\n"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: void-server\nVersion: 9.9\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    for name, package, version in (
        ("pyzmq", "zmq", "27.1.0"),
        ("msgpack", "msgpack", "1.1.2"),
        ("heavy", "heavy", "1"),
    ):
        write_wheel(folder, name, package, version)
    return folder


def files_of(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_it_holds_wheels_host_wheels_zip_gizmos_and_their_sums(tmp_path, own, wheels, capsys):
    out = tmp_path / "bundle"
    assert cli.main(["bundle", str(out), "--wheel", str(own), "--wheels", str(wheels)]) == 0
    assert str(out / bundle.TOLD) in capsys.readouterr().out
    held = files_of(out)
    assert {"wheels/void_server-9.9-py3-none-any.whl", "wheels/msgpack-1.1.2-py3-none-any.whl"} <= held
    assert "wheels/heavy-1-py3-none-any.whl" not in held
    assert {"hosts/void_inpaint.zip", "hosts/pyzmq-27.1.0-py3-none-any.whl", "gizmos/VoidInpaint.gizmo"} <= held
    sums = dict(line.split("  ")[::-1] for line in (out / bundle.SUMS).read_text().splitlines())
    assert set(sums) == held - {bundle.SUMS}
    for name, digest in sums.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest, name


def test_the_extra_void_is_taken_along_when_asked_for(tmp_path, own, wheels):
    out = tmp_path / "bundle"
    words = ["bundle", str(out), "--void", "--no-hosts", "--wheel", str(own), "--wheels", str(wheels)]
    assert cli.main(words) == 0
    assert "wheels/heavy-1-py3-none-any.whl" in files_of(out)
    assert "'void-server[void]'" in (out / bundle.TOLD).read_text()
    assert not (out / "hosts").exists()


@pytest.mark.parametrize("lacking", ["msgpack", "pyzmq"])
def test_a_wheel_that_lacks_is_named_and_nothing_is_left(tmp_path, own, wheels, lacking, capsys):
    next(wheels.glob(f"{lacking}-*")).unlink()
    out = tmp_path / "made/bundle"
    assert cli.main(["bundle", str(out), "--wheel", str(own), "--wheels", str(wheels)]) == 2
    err = capsys.readouterr().err
    assert lacking in err
    assert "hint: " in err
    assert not list((tmp_path / "made").iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path, own, wheels, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/mine.txt").write_text("mine")
    assert cli.main(["bundle", str(tmp_path / "bundle"), "--wheel", str(own), "--wheels", str(wheels)]) == 2
    assert "holds something" in capsys.readouterr().err
    assert files_of(tmp_path / "bundle") == {"mine.txt"}


def test_what_is_no_wheel_is_refused(tmp_path, capsys):
    assert cli.main(["bundle", str(tmp_path / "bundle"), "--wheel", str(tmp_path)]) == 2
    assert "is not a wheel" in capsys.readouterr().err
