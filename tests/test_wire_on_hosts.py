"""The wire as hosts meet it: every Python from 3.9 to 3.13 with pyzmq and msgpack only, and nothing else imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.live_daemon import ROOT, LiveDaemon, make_shot

_DENY = """
import sys
class Deny:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"zmq", "msgpack", "void_server"}:
            # As if it were not installed: the libraries themselves look for optional ones.
            raise ModuleNotFoundError(f"the wire imported {name}")
sys.meta_path.insert(0, Deny())
import void_server.wire.client, void_server.wire.messages, void_server.wire.jobs, void_server.wire.report
rooms = {m.split(".")[1] for m in sys.modules if m.startswith("void_server.")}
assert rooms == {"wire"}, rooms
"""
_USE = """
import sys
from pathlib import Path
from void_server.wire.client import Client
from void_server.wire.shot import ShotFiles, ShotSettings
given, out = Path(sys.argv[2]), Path(sys.argv[3])
def of(role):
    return {int(p.name.split(".")[1]): p for p in given.glob(f"*{role}.*.exr")}
with Client(sys.argv[1]) as client:
    job = client.submit(ShotFiles(plate=of("plate"), matte=of("matte")), ShotSettings())
    status = client.watch(job.job)
    assert status.state == "done", status
    assert len(client.fetch(job.job, out)) == 8
"""


def test_the_wire_imports_the_standard_library_zmq_and_msgpack_alone():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", _DENY], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    make_shot(folder / "in")
    with LiveDaemon(folder / "data") as live:
        yield live, folder


def bare_python(version: str) -> str:
    """An interpreter of this version: pyenv's, else the one on the path."""
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{version}") or ""


def site_of(python: str, version: str) -> Path:
    """A folder that holds pyzmq and msgpack for this Python and nothing else; kept between runs."""
    site = Path(tempfile.gettempdir()) / f"void-bare-wire-{os.getuid()}" / version
    if not (site / "complete").exists():
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--target", str(site), "pyzmq>=26,<28", "msgpack>=1.0.5,<2"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no package index can be reached to install pyzmq for Python {version}: {done.stderr[-200:]}")
        (site / "complete").touch()
    return site


@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_a_bare_python_does_a_whole_job(served, version):
    live, folder = served
    python = bare_python(version)
    if not python:
        pytest.skip(f"this machine has no Python {version}")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{site_of(python, version)}:{ROOT}", "HOME": str(folder)}
    command = [python, "-S", "-W", "error", "-c", _USE, live.address, str(folder / "in"), str(folder / f"out{version}")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
