"""What can be proven of the Nuke plugin without running it: types, names, Python versions, who imports what."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.nuke_script import parse

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "plugins" / "nuke"
MODULES = sorted((PLUGIN / "void_nuke").glob("*.py"))
ENTRIES = [PLUGIN / "init.py", PLUGIN / "menu.py"]
FAKE = [ROOT / f"tests/fakes/{name}.py" for name in ("nuke", "nuke_nodes", "nuke_knobs")]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def stub_trees() -> list[ast.Module]:
    folder = Path(str(importlib.metadata.distribution("types-nuke").locate_file("nuke-stubs")))
    names = ("_nuke", "callbacks", "executeInMain", "overrides", "utils", "scripts")
    return [tree(folder / f"{name}.pyi") for name in names]


def classes(trees: list[ast.Module]) -> dict[str, ast.ClassDef]:
    return {node.name: node for module in trees for node in module.body if isinstance(node, ast.ClassDef)}


def functions(body: list[ast.stmt]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def methods(name: str, known: dict[str, ast.ClassDef]) -> dict[str, list[ast.FunctionDef]]:
    """A class's methods with those of its bases."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for base in known[name].bases:
        if isinstance(base, ast.Name) and base.id in known:
            found.update(methods(base.id, known))
    found.update(functions(known[name].body))
    return found


def fits(mine: ast.FunctionDef, theirs: ast.FunctionDef) -> bool:
    """Whether whatever the fake takes, Nuke takes too, by position and by name."""
    takes_all = theirs.args.vararg is not None
    if mine.args.posonlyargs:
        return takes_all or len(mine.args.posonlyargs) <= len(theirs.args.args)
    wanted = [arg.arg for arg in mine.args.args if arg.arg not in ("self", "cls")]
    offered = [arg.arg for arg in theirs.args.args if arg.arg not in ("self", "cls")]
    return takes_all or wanted == offered[: len(wanted)] or set(wanted) <= set(offered)


def test_every_name_and_argument_of_the_fake_is_one_of_nukes():
    stubs = stub_trees()
    known, top = classes(stubs), {}
    for module in stubs:
        top.update(functions(module.body))
    constants = {
        node.target.id
        for module in stubs
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    checked = 0
    for node in (node for path in FAKE for node in tree(path).body):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert node.name in known, f"Nuke has no class {node.name}"
            theirs = methods(node.name, known)
            for name, (mine, *_) in functions(node.body).items():
                if name.startswith("_") and name not in ("__enter__", "__exit__", "__getitem__"):
                    continue
                assert name in theirs, f"Nuke's {node.name} has no {name}"
                assert any(fits(mine, other) for other in theirs[name]), f"{node.name}.{name} takes other arguments"
                checked += 1
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert node.name in top, f"Nuke has no function {node.name}"
            assert any(fits(node, other) for other in top[node.name]), f"{node.name} takes other arguments"
            checked += 1
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            assert name.startswith("_") or name in (*constants, *top, "TYPES", "BUILT_IN"), f"Nuke has no {name}"
    assert checked > 45


def test_the_comparison_with_nukes_names_can_fail():
    bad, good = (ast.parse(f"def allNodes({a}): ...").body[0] for a in ("fliter", "filter"))
    theirs = ast.parse("def allNodes(filter, group): ...").body[0]
    assert (
        isinstance(bad, ast.FunctionDef) and isinstance(good, ast.FunctionDef) and isinstance(theirs, ast.FunctionDef)
    )
    assert fits(good, theirs) and not fits(bad, theirs)


def mypy(*paths: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--follow-imports=silent"]
    env = {"MYPYPATH": str(PLUGIN), "PATH": ""}
    return subprocess.run(
        [*words, *map(str, paths)], check=False, capture_output=True, text=True, cwd=ROOT, env=env, timeout=100
    )


def test_the_plugin_is_typed_against_nukes_own_names(tmp_path):
    found = mypy(*MODULES, *ENTRIES)
    assert found.returncode == 0, found.stdout + found.stderr
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import nuke\nnuke.createNodes('Blur')\nnuke.ProgressTask('x').isCanceled()\n")
    assert mypy(wrong).stdout.count("error:") == 2, "the check can fail"


def runtime_imports(path: Path) -> set[str]:
    """Top-level packages imported when the module runs, those for types only left out."""
    module = tree(path)
    for node in list(ast.walk(module)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_six_modules_import_nuke_and_none_more_than_wire_and_farm():
    touching = [path.stem for path in MODULES if "nuke" in runtime_imports(path)]
    assert touching == ["bake", "guard", "host", "session", "show", "update"]
    for path in (*MODULES, *ENTRIES):
        foreign = runtime_imports(path) - set(sys.stdlib_module_names) - {"nuke", "void_nuke", "void_server"}
        if path.stem == "colour":
            foreign.discard("PyOpenColorIO")  # which Nuke ships
        assert not foreign, f"{path.name} imports {foreign}"
        for name in re.findall(r"void_server\.(\w+)", path.read_text(encoding="utf-8")):
            assert name in ("wire", "farm", "__version__"), (
                f"{path.name} reaches past wire and farm: void_server.{name}"
            )
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400
    assert runtime_imports(PLUGIN / "init.py") == {"pathlib", "sys", "nuke", "void_nuke"}
    light = {"__future__", "os", "sys", "typing", "collections", "pathlib", "nuke", "void_nuke"}
    for name in ("guard", "tree"):
        assert runtime_imports(PLUGIN / f"void_nuke/{name}.py") <= light, "on every farm machine"


def test_every_knob_named_in_python_is_in_the_gizmo():
    group = parse((ROOT / "gizmos/VoidInpaint.gizmo").read_text(encoding="utf-8")).children[0]
    text = "".join(
        (PLUGIN / f"void_nuke/{name}.py").read_text(encoding="utf-8")
        for name in ("host", "nodes", "guard", "show", "bake")
    )
    named = set(re.findall(r'node\["(\w+)"\]|(?:value|text)\(node, "(\w+)"\)', text))
    knobs = {a or b for a, b in named}
    on_reads_and_root = {"first", "last", "raw", "frame", "auto_alpha", "disable", "colorspace", "file", "number"}
    assert len(knobs) > 15 and knobs - on_reads_and_root <= set(group.user), knobs - set(group.user)
    request = tree(PLUGIN / "void_nuke/request.py")
    for node in request.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("SENT", "NOT_SENT"):
            assert set(ast.literal_eval(node.value)) <= set(group.user)
    for name in re.findall(r'inner\(node, "(\w+)"', text) + re.findall(r'"(Read\w+|\w+AsAlpha)"', text):
        assert group.child(name), name
    buttons = {knob.name for knob in group.user.values() if knob.kind == 22}
    host = tree(PLUGIN / "void_nuke/host.py")
    (table,) = [n.value for n in host.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "BUTTONS"]
    assert isinstance(table, ast.Dict) and buttons == {ast.literal_eval(key) for key in table.keys if key}


def python(version: str) -> str:
    """An interpreter of that version on this machine, or a skip that says so."""
    found = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    if not found and not pyenv:
        pytest.skip(f"no Python {version} on this machine")
    return str(pyenv[0]) if pyenv else str(found)


BARE = """
import compileall, socket, sys
def refuse(*_a, **_k):
    raise AssertionError("a socket was opened by an import")
socket.socket = refuse
root, plugin = sys.argv[1:]
sys.path[:0] = [plugin, root]
sys.dont_write_bytecode = True
for name in ("states", "results", "request", "live", "work", "nodes", "tree", "colour", "find_wire"):
    __import__("void_nuke." + name)
assert "zmq" not in sys.modules and "nuke" not in sys.modules
import doctest, void_nuke.states, void_nuke.results, void_nuke.colour
for module in (void_nuke.states, void_nuke.results, void_nuke.colour):
    failed, tried = doctest.testmod(module)
    assert tried and not failed
import types
nuke = sys.modules["nuke"] = types.ModuleType("nuke")
nuke.TO_SCRIPT, nuke.WRITE_NON_DEFAULT_ONLY, nuke.INPUTS, nuke.HIDDEN_INPUTS = 1, 2, 1, 2
import typing, void_nuke.host, void_nuke.guard
assert void_nuke.work.client_problem().startswith("The VOID client is not installed for Python"), "says what lacks"
print("imported")
"""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11"])
def test_the_plugin_compiles_and_imports_on_the_python_of_nuke_14_to_17(version, tmp_path):
    found = python(version)
    for path in (*MODULES, *ENTRIES):
        out = tmp_path / f"{path.stem}.pyc"
        code = "import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], doraise=True)"
        subprocess.run([found, "-I", "-c", code, str(path), str(out)], check=True, capture_output=True, timeout=60)
    run = subprocess.run(
        [found, "-I", "-S", "-W", "error", "-c", BARE, str(ROOT), str(PLUGIN)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0 and run.stdout.strip() == "imported", run.stderr
