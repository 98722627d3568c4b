"""Laying a plug-in into a user's folder and taking it away again, from wheels in a folder: no network."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from void_server import cli
from void_server.commands.installation import install
from void_server.wire.errors import OutputError, SettingsError

ROOT = Path(__file__).resolve().parent.parent
HERE = ".".join(map(str, sys.version_info[:2]))
NUKE = install.HOSTS["nuke"]
SYSTEM = install.this_platform()


def at(home: Path) -> install.Place:
    return install.Place(home, "void")


def write_wheel(folder: Path, name: str, package: str, version: str, python: str = "py3") -> Path:
    """A wheel that pip takes, with one module and one shared library of a kind."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{python}-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/__init__.py", f"__version__ = '{version}'\n")
        archive.writestr(f"{package}/library.so", b"\x7fELF")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {python}-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    write_wheel(folder, "pyzmq", "zmq", "27.1.0")
    write_wheel(folder, "msgpack", "msgpack", "1.1.0")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_install_and_uninstall_leave_the_users_folder_as_it_was(tmp_path, wheels, capsys):
    home = tmp_path / ".nuke"
    home.mkdir()
    (home / "init.py").write_bytes(b"import studio  # no newline at the end\r\nstudio.start()")
    (home / "menu.py").write_bytes(b"mine\n")
    before = tree(home)
    words = ["install", "nuke", "--to", str(home)]
    assert cli.main([*words, "--wheels", str(wheels), "--nuke-version", "15", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["installed"] == str(home / "void") and said["versions"] == ["15"]
    laid = tree(home)
    assert {name for name in laid if not name.startswith("void/")} == {"init.py", "menu.py"}
    for name in ("init.py", "menu.py", "void_nuke/host.py", "gizmos/VoidInpaint.gizmo", "gizmos/VoidQuadmask.gizmo"):
        assert f"void/{name}" in laid
    assert laid[f"void/python/3.10-{SYSTEM}/zmq/library.so"] == b"\x7fELF"
    assert "void/python/wire/void_server/wire/client.py" in laid and "void/python/wire/void_server/cli.py" not in laid
    assert not [name for name in laid if name.endswith(".pyc")]
    assert laid["init.py"].startswith(before["init.py"]) and laid["init.py"].count(b"pluginAddPath") == 1
    assert cli.main([*words, "--uninstall"]) == 0
    assert tree(home) == before and not (home / "void").exists()


def test_a_start_file_edited_meanwhile_loses_our_line_only(tmp_path, wheels):
    (tmp_path / "init.py").write_bytes(b"first()\n\xe9 = 1\n")
    install.install(NUKE, at(tmp_path), ["15"], wheels)
    with (tmp_path / "init.py").open("ab") as file:
        file.write(b"last()\n")
    install.uninstall(NUKE, at(tmp_path))
    assert (tmp_path / "init.py").read_bytes() == b"first()\n\xe9 = 1\nlast()\n"


def test_a_fresh_home_is_empty_again_even_after_the_host_has_run(tmp_path, wheels):
    home = tmp_path / "home" / ".nuke"
    folder = install.install(NUKE, at(home), ["14", "17"], wheels)
    assert sorted(p.name for p in (folder / "python").iterdir()) == [f"3.11-{SYSTEM}", f"3.9-{SYSTEM}", "wire"]
    cache = folder / "void_nuke" / "__pycache__"
    cache.mkdir()
    (cache / "host.cpython-311.pyc").write_bytes(b"x")
    assert install.uninstall(NUKE, at(home)) == [] and not list(home.iterdir())


def test_installing_again_replaces_what_was_laid_and_keeps_one_line(tmp_path, wheels):
    install.install(NUKE, at(tmp_path), ["14"], wheels)
    install.install(NUKE, at(tmp_path), ["16"], wheels)
    assert sorted(p.name for p in (tmp_path / "void/python").iterdir()) == [f"3.11-{SYSTEM}", "wire"]
    assert (tmp_path / "init.py").read_text().count("pluginAddPath") == 1


def test_a_file_that_somebody_changed_stays_and_is_named(tmp_path, wheels, capsys):
    install.install(NUKE, at(tmp_path), ["15"], wheels)
    (tmp_path / "void/menu.py").write_text("studio's own\n")
    (tmp_path / "void/notes.txt").write_text("theirs\n")
    assert cli.main(["install", "nuke", "--to", str(tmp_path), "--uninstall"]) == 0
    assert "menu.py" in capsys.readouterr().out
    assert tree(tmp_path / "void") == {"menu.py": b"studio's own\n", "notes.txt": b"theirs\n"}


def test_a_list_that_points_outside_its_folder_removes_nothing_there(tmp_path, wheels):
    install.install(NUKE, at(tmp_path / ".nuke"), ["15"], wheels)
    victim = tmp_path / "victim.txt"
    victim.write_text("keep me")
    listed = json.loads((tmp_path / ".nuke/void/installed.json").read_text())
    listed["files"]["../../victim.txt"] = install._sha256(victim)
    (tmp_path / ".nuke/void/installed.json").write_text(json.dumps(listed))
    install.uninstall(NUKE, at(tmp_path / ".nuke"))
    assert victim.read_text() == "keep me"


@pytest.mark.parametrize("lacking", ["a wheel", "the folder", "the right Python"])
def test_wheels_that_lack_are_named_and_nothing_is_laid(tmp_path, wheels, lacking, capsys):
    if lacking == "a wheel":
        next(wheels.glob("msgpack*")).unlink()
    elif lacking == "the right Python":
        next(wheels.glob("pyzmq*")).unlink()
        write_wheel(wheels, "pyzmq", "zmq", "27.1.0", "cp313")
    folder = tmp_path / "no" if lacking == "the folder" else wheels
    home = tmp_path / ".nuke"
    assert cli.main(["install", "nuke", "--to", str(home), "--wheels", str(folder), "--nuke-version", "15"]) == 2
    assert not home.exists()
    said = capsys.readouterr().err
    assert str(folder) in said and "Traceback" not in said


def test_a_wheel_that_climbs_out_of_its_folder_is_refused(tmp_path, wheels):
    with zipfile.ZipFile(next(wheels.glob("pyzmq*")), "a") as archive:
        archive.writestr("../../evil.py", "")
    with pytest.raises(SettingsError, match=r"evil\.py"):
        install.install(NUKE, at(tmp_path / ".nuke"), ["15"], wheels)
    assert not (tmp_path / ".nuke").exists() and not list(tmp_path.rglob("evil.py"))


def test_a_folder_of_somebody_else_and_an_uninstall_of_nothing_are_refused(tmp_path, wheels):
    (tmp_path / "void").mkdir()
    (tmp_path / "void/theirs.py").write_text("x")
    with pytest.raises(OutputError, match="not ours"):
        install.install(NUKE, at(tmp_path), ["15"], wheels)
    with pytest.raises(SettingsError, match="Nothing of VOID"):
        install.uninstall(NUKE, at(tmp_path))


def test_what_was_laid_is_what_the_hosts_python_finds(tmp_path, wheels, monkeypatch):
    monkeypatch.setitem(NUKE.pythons, "here", HERE)  # type: ignore[arg-type]
    folder = install.install(NUKE, at(tmp_path), ["here"], wheels)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import void_nuke.request, zmq, msgpack, void_server\n"
        "print(zmq.__file__, msgpack.__file__, void_server.__file__, sep='\\n')"
    )
    words = [sys.executable, "-I", "-S", "-B", "-c", code, str(folder)]
    found = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert [Path(p).relative_to(folder).parts[:2] for p in found] == [("python", f"{HERE}-{SYSTEM}")] * 2 + [
        ("python", "wire")
    ]


TAGS = {
    "linux-x64": "manylinux2014_x86_64",
    "windows-x64": "win_amd64",
    "macos-arm64": "macosx_11_0_arm64",
    "macos-x64": "macosx_10_15_x86_64",
}


@pytest.fixture
def compiled(tmp_path):
    """Wheels as the index has them: compiled ones, one a Python and a system, their library named after it."""
    folder = tmp_path / "compiled"
    for python in ("cp39", "cp310", "cp311"):
        for tag in TAGS.values():
            for name, package, version in (("pyzmq", "zmq", "27.1.0"), ("msgpack", "msgpack", "1.1.0")):
                path = write_wheel(folder, name, package, version, f"{python}-{python}")
                with zipfile.ZipFile(path, "a") as archive:
                    archive.writestr(f"{package}/{python}-{tag}.lib", "")
                path.rename(folder / f"{name}-{version}-{python}-{python}-{tag}.whl")
    return folder


def test_one_folder_for_a_studio_serves_every_system_and_is_laid_from_any_machine(tmp_path, compiled, capsys):
    share = tmp_path / "share"
    share.mkdir()
    share.chmod(0o755)
    before = os.umask(0o077)
    try:
        words = ["install", "nuke", "--central", str(share / "void nuke"), "--wheels", str(compiled)]
        assert cli.main(words) == 0
    finally:
        os.umask(before)
    assert f"NUKE_PATH={share.as_posix()}/void nuke" in capsys.readouterr().out
    laid = tree(share / "void nuke")
    for python, tag in (("3.9", "cp39"), ("3.10", "cp310"), ("3.11", "cp311")):
        for system, platform in TAGS.items():
            for package in ("zmq", "msgpack"):
                libraries = [
                    n for n in laid if n.startswith(f"python/{python}-{system}/{package}/") and n.endswith(".lib")
                ]
                assert libraries == [f"python/{python}-{system}/{package}/{tag}-{platform}.lib"]
    assert "init.py" in laid and "menu.py" in laid and not (share / "init.py").exists()
    modes = {p.stat().st_mode & 0o777 for p in (share / "void nuke").rglob("*")}
    assert modes == {0o755, 0o644}, "render users read it, whatever the umask of who laid it"
    assert cli.main([*words[:4], "--uninstall"]) == 0
    assert not (share / "void nuke").exists()


def test_a_system_may_be_named_and_blender_has_not_all_of_nukes(tmp_path, compiled, capsys):
    words = ["install", "nuke", "--to", str(tmp_path / ".nuke"), "--wheels", str(compiled), "--nuke-version", "16"]
    assert cli.main([*words, "--platform", "windows-x64", "--platform", "macos-x64"]) == 0
    assert sorted(p.name for p in (tmp_path / ".nuke/void/python").iterdir()) == [
        "3.11-macos-x64",
        "3.11-windows-x64",
        "wire",
    ]
    assert cli.main(["install", "blender", "--zip", str(tmp_path / "x.zip"), "--platform", "macos-x64"]) == 2
    assert cli.main(["install", "blender", "--central", str(tmp_path)]) == 2
    assert cli.main(["install", "nuke", "--central", str(tmp_path / "a"), "--to", str(tmp_path)]) == 2


def test_installer_and_plug_in_name_systems_alike(monkeypatch):
    path = ROOT / "plugins/nuke/void_nuke/find_wire.py"
    spec = importlib.util.spec_from_file_location("find_wire", path)
    find_wire = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(find_wire)
    for system, machine in (("linux", "x86_64"), ("win32", "AMD64"), ("darwin", "arm64"), ("darwin", "x86_64")):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert find_wire.system() == install.this_platform() in install.PLATFORMS


def test_no_drive_becomes_a_network_name(tmp_path, wheels):
    """`resolve` follows links, and on Windows a mapped drive to its share: studios' rules don't know those names."""
    folder = install.install(NUKE, at(tmp_path / "real"), ["16"], wheels)
    link = tmp_path / "drive"
    link.symlink_to(folder)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from void_nuke import find_wire; print(find_wire.PLUGIN)"
    words = [sys.executable, "-I", "-S", "-B", "-c", code, str(link)]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == str(link)
    for path in (folder / "init.py", *(folder / "void_nuke").glob("*.py")):
        assert ".resolve(" not in path.read_text(encoding="utf-8"), path.name


def test_the_wheel_carries_what_install_lays(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"})
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pyc")]
        archive.extractall(unpacked)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from void_server.commands.installation import install\n"
        "for source, target in install.sources(install.HOSTS['nuke']): print(source.relative_to(sys.argv[1]), target)"
    )
    words = [sys.executable, "-I", "-c", code, str(unpacked)]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "void_server/hosts/plugins/nuke" in listed and "void_server/hosts/gizmos gizmos" in listed
    assert (unpacked / "void_server/hosts/gizmos/VoidInpaint.gizmo").is_file()
    assert (unpacked / "void_server/hosts/plugins/nuke/void_nuke/host.py").is_file()
