"""What the buttons of VoidInpaint do, and what the node says.

What comes in: a node and the name of a button, from the main thread. What goes out: knobs, one undo step a result,
messages. Work goes to a thread, which comes back by `executeInMainThread`. It decides nothing about shots (`request`),
folders (`results`) or jobs (`work`).

Main thread: everything here; a `Live` calls back from its thread by `_in_main`, and makes its own ProgressTask.
Sources: Foundry's Python developer guide, "Threading" and "Callbacks".
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional, cast

import nuke

from void_nuke import request, results, session, show, update, work
from void_nuke.bake import bake, leave_to_farm
from void_nuke.bake import files as to_be_sent
from void_nuke.live import Live
from void_nuke.nodes import depends_on_variables, input_facts, settings, sources, text, upstream, value
from void_nuke.results import Record
from void_nuke.states import Facts, State, judge, noted, spoken
from void_server.wire.shot import FrameRange

_live: dict[str, Live] = {}
"""Work under way in this session, by `_key`."""
_found: dict[str, Facts] = {}
"""What the last look at the disk found, by `_key`. Gone with the session, so nothing in it can stick."""
_inputs: dict[str, str] = {}
"""The mark of everything above a node when it was last asked for, by `_key`."""

UPSTREAM = nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY


def install() -> None:
    """Make the menu. Called once, by menu.py."""
    menu = nuke.menu("Nodes").addMenu("VOID")
    for name in ("VoidInpaint", "VoidQuadmask"):
        menu.addCommand(name, f"from void_nuke import host; host.create({name!r})")
    menu.addCommand("Update nodes of this script", "from void_nuke import host; host.update_nodes()")


def create(name: str) -> None:
    """Put a node into the script, as any other is made: behind the selected one, with its panel open."""
    update.fresh(name)


def update_nodes() -> None:
    """Bring nodes that an older version made up to date, and say which."""
    names = update.update_all()
    _tell(f"Updated: {', '.join(names)}." if names else "Every VoidInpaint of this script is up to date.")


def press(node: nuke.Node, button: str) -> None:
    """What every button of VoidInpaint calls. Errors of ours end in a message, never in a traceback for the artist."""
    group = cast("nuke.Group", node)
    try:
        if update.outdated(group):
            raise request.RefusedError(
                [f"An older version made {group.name()}. In the menu Nodes, VOID, choose Update nodes of this script."]
            )
        BUTTONS[button](group)
    except request.RefusedError as refused:
        _tell("VOID can't start yet:\n\n" + "\n".join(f"- {problem}" for problem in refused.problems))
    except OSError as error:
        _tell(f"VOID can't use its folder beside the script: {error}. Check that you may write there.")


def remove(node: nuke.Group) -> None:
    """Check, render what must be, send. Returns once the thread runs; without a window, once the result is there."""
    _run(node, "clean")


def preview_frame(node: nuke.Group) -> None:
    """Remove at the current frame alone, from a few frames around it, in the viewer's region where that is on."""
    _run(node, "frame", FrameRange(nuke.frame(), nuke.frame()))


def redo_range(node: nuke.Group) -> None:
    """Make some frames of the shown version anew, as a new version. It stays as stale as the frames it takes over."""
    first, last = int(value(node, "redo_first")), int(value(node, "redo_last"))
    have = int(value(node, "result_first")), int(value(node, "result_last"))
    if not value(node, "has_result"):
        raise request.RefusedError(["There is no result to redo a part of. Press Remove first."])
    if not have[0] <= first <= last <= have[1]:
        said = f"Frames {first}-{last} are to be made anew; the shown version has {have[0]}-{have[1]}."
        raise request.RefusedError([f"{said} Choose among them."])
    _run(node, "clean", FrameRange(first, last), text(node, "result_at"))


def _run(node: nuke.Group, kind: str, only: Optional[FrameRange] = None, base: str = "") -> None:  # noqa: UP045
    """kind: one of `results.STEMS`. only: frames to make, else what the node says. base: where others come from."""
    asked = look(node)
    plan = request.plan(asked, kind, only)
    name = show.identify(node)
    folder = Path(asked.base) / name
    version = results.claim_version(folder, kind)
    marks = text(node, "input_fingerprint") if base else request.fingerprint(asked.knobs, _mark_inputs(node))
    first, last = plan.frames.first, plan.frames.last
    if base:
        first, last = int(value(node, "result_first")), int(value(node, "result_last"))
    records = []
    for view in plan.views:
        place = results.version_folder(folder, kind, version) / (view if plan.several_views else "")
        files = dict(plan.direct)
        renders: list[dict[str, Any]] = []
        role = "its inputs"
        try:
            if plan.bakes_there and plan.bake:
                # Beside the script: what it names from its own folder is found from there.
                copy = Path(asked.script).with_name(f"{name}_v{version:03d}_{view}.nk")
                renders = leave_to_farm(node, plan.bake, view, plan, place / "sent", copy)
                files.update({role: to_be_sent(role, plan, place / "sent") for role in plan.bake})
            for role in () if renders else plan.bake:
                _say(node, Facts(live=State.BAKING), role)
                files[role] = bake(node, role, view, plan, place / "sent")
        except (RuntimeError, nuke.CancelledError) as error:
            state = State.CANCELLED if "cancel" in str(error).lower() else State.FAILED
            results.discard(results.version_folder(folder, kind, version))
            _finish(node, "", work.Outcome(state, (), f"Nuke could not render {role}: {error}"))
            return
        record = Record(
            folder=place,
            request=results.new_request(),
            server=plan.server,
            node=node.name(),
            deliver=kind,
            view=view,
            settings=plan.settings.to_wire(),
            files=files,
            first=first,
            last=last,
            fingerprint=marks,
            base=str(Path(base) / (view if plan.several_views else "")) if base else "",
            renders=renders,
        )
        record.save()
        records.append(record)
    _start(node, lambda: records, work.run)


def preview_affected(node: nuke.Group) -> None:
    """Only find what the object did to the scene, and show it."""
    _run(node, "affected")


def cancel_job(node: nuke.Group) -> None:
    """Stop the job of this node: the one under way, else one that was left behind."""
    live = _live.get(_key(node))
    if live is not None:
        live.cancelled.set()
        _show_live(node, State.CANCELLING)
        return
    _start(node, _left_behind(node), lambda records, _hear, _cancelled: work.cancel(records))


def reattach(node: nuke.Group) -> None:
    """Take up the job that was left behind when Nuke closed, crashed, or lost the daemon."""
    _start(node, _left_behind(node), work.run)


def refresh(node: nuke.Group) -> None:
    """Look at the disk and at the inputs again. If `version` names an older result, go back to it. No network."""
    base, name, node_name = show.base(node), text(node, "job_folder"), node.name()
    _mark_inputs(node)
    version, shown = int(node["version"].value()), text(node, "result_at")

    def look_at_disk() -> None:
        found, wanted, lines = results.find(base, name, node_name, version, shown)
        other = wanted is not None and results.run_of(wanted).as_posix() != shown
        _in_main(_looked, node, found, wanted if other else None, lines)

    _look(look_at_disk)


def _look(at_disk: Callable[[], None]) -> None:
    """Read folders in a thread; without a window, here and now."""
    if nuke.GUI:
        threading.Thread(target=at_disk, name="VOID look", daemon=True).start()
    else:
        at_disk()


def reveal(node: nuke.Group) -> None:
    """Open the folder of the result in the system's file browser."""
    shown = text(node, "result_at")
    results.reveal(Path(shown) if shown else show.base(node) / text(node, "job_folder"))


def add_reference(node: nuke.Group) -> None:
    """The reference input shows the scene without the object at the current frame."""
    told = text(node, "reference_frames").split()
    if str(nuke.frame()) not in told:
        node["reference_frames"].setValue(" ".join([*told, str(nuke.frame())]))


BUTTONS: dict[str, Callable[[nuke.Group], None]] = {
    "remove": remove,
    "preview_affected": preview_affected,
    "preview_frame": preview_frame,
    "redo_range": redo_range,
    "cancel_job": cancel_job,
    "reattach": reattach,
    "refresh": refresh,
    "add_reference": add_reference,
    "reveal": reveal,
}


def knob_changed(node: nuke.Node, knob: nuke.Knob) -> None:
    """Keep the state line true while the panel is open. No network; the disk only from a thread; what lies above the
    node is only looked at when its panel opens or a wire is moved."""
    group = cast("nuke.Group", node)
    if update.outdated(group):
        return  # its own script calls this one; its buttons say what to do
    if knob.name() == "showPanel":
        refresh(group)
    elif knob.name() == "inputChange":
        _mark_inputs(group)
        _show(group)
    elif knob.name() == "versions":
        chosen = results.version_in(text(group, "versions"))
        if chosen and chosen != int(value(group, "version")):
            group["version"].setValue(chosen)
            refresh(group)
    elif knob.name() == "compare":
        _compare(group)
    elif knob.name() in request.SENT:
        _show(group)


def _compare(node: nuke.Group) -> None:
    """Show the version that `compare with` names, beside the other."""
    chosen, shown = results.version_in(text(node, "compare")), text(node, "result_at")

    def look_at_disk() -> None:
        found = results.records(Path(shown).parent) if chosen and shown else iter(())
        mine = (r for r in found if r.deliver == "clean" and r.state == "done" and results.version_of(r)[1] == chosen)
        _in_main(show.compare, node, next(mine, None))

    _look(look_at_disk)


# What a node looks like ----------------------------------------------------------------------------------------------


def look(node: nuke.Group) -> request.Asked:
    """Read everything off a node that a shot depends on, in one go."""
    root = nuke.root()
    return request.Asked(
        node=node.name(),
        script=show.script(),
        base=str(show.base(node)),
        inputs={role: input_facts(source) for role, source in sources(node)},
        knobs=settings(node),
        root_first=float(root["first_frame"].value()),
        root_last=float(root["last_frame"].value()),
        views=tuple(nuke.views()),
        colour=session.colour(root),
        busy=_key(node) in _live,
        non_commercial=bool(nuke.env.get("nc")),
        varies=depends_on_variables(node),
        client_problem=work.client_problem(),
        viewed=session.viewed(root),
    )


# Work in a thread ----------------------------------------------------------------------------------------------------


def _start(node: nuke.Group, records: Callable[[], Sequence[Record]], act: Callable[..., work.Outcome]) -> None:
    """Run `act` on the records in a thread; without a window, here and now."""
    key = _key(node)
    if key in _live:
        raise request.RefusedError(["A job of this node is under way. Wait for it, or press Cancel."])
    title = f"VOID: {node.name()}"
    live = _live[key] = Live(
        task=(lambda: nuke.ProgressTask(title)) if nuke.GUI else None,
        tell=lambda state, line: _in_main(_show_live, node, state, line),
        finish=lambda outcome: _in_main(_finish, node, key, outcome),
    )
    if nuke.GUI:
        threading.Thread(target=live.body, args=(records, act), name="VOID job", daemon=True).start()
    else:
        live.body(records, act)


def _left_behind(node: nuke.Group) -> Callable[[], Sequence[Record]]:
    base, name, node_name = show.base(node), text(node, "job_folder"), node.name()
    return lambda: results.unfinished(base, name, node_name)


def _in_main(call: Callable[..., None], *args: Any) -> None:
    """Call from any thread; a node that was deleted meanwhile is no error, its result lies on disk all the same."""

    def attached() -> None:
        try:
            call(*args)
        except ValueError as error:
            if "not attached" not in str(error):
                raise

    if threading.current_thread() is threading.main_thread():
        attached()
    else:
        nuke.executeInMainThread(attached)


def _finish(node: nuke.Group, key: str, outcome: work.Outcome) -> None:
    """Put an outcome onto the node."""
    _live.pop(key, None)
    state = {State.DETACHED: "unfinished", State.FAILED: "failed", State.CANCELLED: "cancelled"}.get(outcome.state, "")
    if outcome.state is State.READY:
        show.apply(node, outcome.records[0])
        for record in outcome.records:
            with contextlib.suppress(OSError):
                record.with_(shown=True)
    _found[_key(node)] = Facts(record=state, error=outcome.error)
    _show(node, outcome.error)


# What the node says --------------------------------------------------------------------------------------------------


def _show(node: nuke.Group, detail: str = "") -> None:
    """Write the state line from what is known now."""
    live = _live.get(_key(node))
    known = _found.get(_key(node), Facts())
    facts = dataclasses.replace(
        known,
        live=live.state if live else None,
        has_result=bool(value(node, "has_result")),
        version=int(value(node, "version")),
        changed=request.changed(text(node, "input_fingerprint"), settings(node), _inputs.get(_key(node), "")),
    )
    _say(node, facts, detail if judge(facts) is not State.FAILED else "")


def _show_live(node: nuke.Group, state: State, detail: str = "") -> None:
    live = _live.get(_key(node))
    if live is not None:
        live.state = State.CANCELLING if live.cancelled.is_set() else state
        _say(node, Facts(live=live.state), detail)


def _looked(node: nuke.Group, found: Facts, wanted: Optional[Record], lines: list[str]) -> None:  # noqa: UP045
    _found[_key(node)] = found
    if wanted is not None:
        show.apply(node, wanted)
    lost = bool(found.missing_frames)
    if value(node, "files_missing") != lost:
        with show.no_undo():
            node["files_missing"].setValue(lost)
    show.offer(node, lines)
    _show(node)


def _say(node: nuke.Group, facts: Facts, detail: str = "") -> None:
    """Write the panel's line, and the note under the node's name in the graph."""
    with show.no_undo():
        node["status"].setValue(spoken(facts, detail))
        node["note"].setValue(noted(facts, detail))


def _tell(lines: str) -> None:
    if nuke.GUI:
        nuke.message(lines)
    else:
        nuke.tprint(lines)


def _mark_inputs(node: nuke.Group) -> str:
    """The mark of everything above a node, taken anew: Nuke writes out every node of it."""
    mark = _inputs[_key(node)] = request.inputs_mark(upstream(node, UPSTREAM))
    return mark


def _key(node: nuke.Node) -> str:
    """What tells a node from all others of this session; two scripts may each have a VoidInpaint1."""
    return text(node, "void_id") or f"{nuke.root().name()}:{node.fullName()}"
