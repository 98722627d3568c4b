"""What an artist adds to the affected region and takes from it: max(affected, add) * (1 - sub), everywhere alike."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests import tiny_shot
from tests.fakes.effects import Believes
from tests.live_daemon import LiveDaemon
from void_server import cli, pipeline
from void_server.commands.demo import shot as demo_shot
from void_server.effects import predictor
from void_server.shot import check
from void_server.wire.errors import MatteError, RequestError, SequenceError
from void_server.wire.report import Report
from void_server.wire.shot import FrameRange, ShotFiles, ShotSettings

PLAIN = ShotSettings(engine="propagate", physics_prior=False)
SIZE = (tiny_shot.HEIGHT, tiny_shot.WIDTH)
LOW, HIGH, CORNER = np.s_[44:54, 10:60], np.s_[44:54, 40:80], np.s_[2:12, 80:92]
"""Places no object of the tiny shot ever covers; the first two overlap."""


@pytest.fixture
def shot(tmp_path):
    return tiny_shot.write(tmp_path / "shot")


def paint(shot, role, frames=tiny_shot.FRAMES, where=LOW, value=1.0):
    """Frames of one role, `value` where it is painted; their pattern."""
    for frame in frames:
        picture = np.zeros(SIZE, np.float16)
        picture[where] = value
        tiny_shot.write_exr(shot.folder / f"{role}/{role}.{frame}.exr", {"A": picture})
    return str(shot.folder / f"{role}/{role}.####.exr")


def remove(shot, out, settings=PLAIN, report=None, **roles):
    files = check.find_files(shot.plate, shot.matte, **roles)
    return pipeline.make_clean_plate(files, settings, out, report or Report())


def affected(out, frame=1001):
    return tiny_shot.read_channel(out / f"aov.{frame}.exr", "affected").astype(np.float32)


def marked(where=(), value=1.0):
    picture = np.zeros(SIZE, np.float32)
    if where:
        picture[where] = value
    return picture


def bits(path):
    return tiny_shot.read_rgb(path).view(np.uint16)


def test_what_is_added_alone_is_the_affected_region_where_none_is_looked_for(shot, tmp_path):
    manifest = remove(shot, tmp_path / "out", affected_add=paint(shot, "add"))
    for index, frame in enumerate(tiny_shot.FRAMES):
        assert np.array_equal(affected(tmp_path / "out", frame), marked(LOW))
        change = tiny_shot.read_channel(tmp_path / f"out/aov.{frame}.exr", "change")
        assert change[LOW].min() == 1
        assert change[tiny_shot.square(index)].min() == 1
    assert set(manifest["inputs"]["affected_add"]) == {str(frame) for frame in tiny_shot.FRAMES}


def test_adding_extends_what_was_painted_and_taking_away_wins_over_both(shot, tmp_path):
    roles = {
        "affected": paint(shot, "affected", where=LOW, value=0.75),
        "affected_add": paint(shot, "add", where=HIGH, value=0.5),
        "affected_sub": paint(shot, "sub", where=np.s_[48:50, 50:70], value=1.0),
    }
    remove(shot, tmp_path / "out", **roles)
    found = affected(tmp_path / "out", 1001)
    expected = np.maximum(marked(LOW, 0.75), marked(HIGH, 0.5))
    expected[48:50, 50:70] = 0
    assert np.abs(found - expected).max() < 1e-3


def test_half_a_stroke_takes_half_away(shot, tmp_path):
    roles = {"affected": paint(shot, "affected"), "affected_sub": paint(shot, "sub", where=HIGH, value=0.25)}
    remove(shot, tmp_path / "out", **roles)
    expected = marked(LOW) * (1 - marked(HIGH, 0.25))
    assert np.abs(affected(tmp_path / "out") - expected).max() < 1e-3


def test_taking_everything_away_leaves_the_matte_as_it_was(shot, tmp_path):
    remove(shot, tmp_path / "plain")
    roles = {"affected": paint(shot, "affected"), "affected_sub": paint(shot, "sub", where=np.s_[:, :])}
    manifest = remove(shot, tmp_path / "out", **roles)
    for frame in tiny_shot.FRAMES:
        for name in ("clean", "aov"):
            one, other = (tmp_path / f"{out}/{name}.{frame}.exr" for out in ("plain", "out"))
            assert one.read_bytes() == other.read_bytes()
    # A picture whose alpha is solid looks like this too.
    assert "affected-sub-everything" in [warning["code"] for warning in manifest["warnings"]]


def test_keep_still_wins_over_what_is_added(shot, tmp_path):
    remove(shot, tmp_path / "out", affected_add=paint(shot, "add"), keep=paint(shot, "keep", where=np.s_[40:, :]))
    for frame in tiny_shot.FRAMES:
        clean, plate = tmp_path / f"out/clean.{frame}.exr", shot.folder / f"plate/plate.{frame}.exr"
        assert np.array_equal(bits(clean)[40:], bits(plate)[40:])


def test_frames_that_a_correction_lacks_are_not_corrected_whatever_missing_says(shot, tmp_path):
    roles = {
        "affected": paint(shot, "affected"),
        "affected_add": paint(shot, "add", [1003], CORNER),
        "affected_sub": paint(shot, "sub", [1005], LOW),
    }
    for missing in ("error", "hold", "skip"):
        out = tmp_path / missing
        settings = ShotSettings(engine="propagate", physics_prior=False, missing=missing)
        manifest = remove(shot, out, settings, **roles)
        expected = {frame: marked(LOW) for frame in tiny_shot.FRAMES}
        expected[1003] = np.maximum(marked(LOW), marked(CORNER))
        expected[1005] = marked()
        for frame in tiny_shot.FRAMES:
            assert np.array_equal(affected(out, frame), expected[frame])
        assert list(manifest["inputs"]["affected_sub"]) == ["1005"]


def test_a_plate_that_is_held_is_corrected_like_the_frame_it_repeats(shot):
    add = paint(shot, "add", [1002])
    (shot.folder / "plate/plate.1003.exr").unlink()
    files = check.find_files(shot.plate, shot.matte, affected_add=add)
    checked = check.check_shot(files, ShotSettings(missing="hold"))
    assert sorted(checked.mattes["affected_add"]) == [1002, 1003]


def test_a_correction_makes_the_frames_again_and_the_same_one_does_not(shot, tmp_path):
    out = tmp_path / "out"

    def stamps():
        return {path.name: path.stat().st_mtime_ns for path in out.glob("*.exr")}

    remove(shot, out)
    plain = stamps()
    add = paint(shot, "add", [1003])
    remove(shot, out, affected_add=add)
    once = stamps()
    assert all(once[name] != plain[name] for name in plain)
    remove(shot, out, affected_add=add)
    assert stamps() == once
    paint(shot, "add", [1003], CORNER)
    remove(shot, out, affected_add=add)
    assert all(stamps()[name] != once[name] for name in once)


def test_what_was_found_is_corrected_where_it_was_painted_and_nowhere_else(tmp_path):
    shot = demo_shot.write(tmp_path)
    for role in ("plate", "matte"):
        # Every fourth frame of it: enough of them show what lies behind, and few are quick.
        for index, path in enumerate(sorted((tmp_path / role).iterdir())):
            path.rename(path.with_name(f"{role}.{1001 + index // 4}.exr")) if index % 4 == 0 else path.unlink()
    words = ["effects", shot.plate, "--matte", shot.matte]
    assert cli.main([*words, "--out", str(tmp_path / "found")]) == 0
    found = {f: tiny_shot.read_channel(tmp_path / f"found/affected.{f}.exr", "affected") for f in range(1001, 1007)}
    add, sub = np.s_[20:50, 300:360], np.s_[:, : int(np.median(np.nonzero(found[1003])[1]))]
    assert (found[1003][sub] > 0).sum() > 100
    windows = {"dataWindow": tiny_shot.window(-16, -8, 656, 368), "displayWindow": tiny_shot.window(0, 0, 640, 360)}
    for role, frame, where in (("add", 1002, add), ("add", 1003, add), ("sub", 1003, sub)):
        picture = np.zeros((376, 672), np.float16)
        picture[where] = 1
        tiny_shot.write_exr(tmp_path / f"{role}/{role}.{frame}.exr", {"A": picture}, **windows)
    words += ["--affected-add", str(tmp_path / "add"), "--affected-sub", str(tmp_path / "sub/sub.1003.exr")]
    assert cli.main([*words, "--out", str(tmp_path / "corrected")]) == 0
    for frame in (1002, 1003):
        found[frame][add] = 1
    found[1003][sub] = 0
    for frame, expected in found.items():
        corrected = tiny_shot.read_channel(tmp_path / f"corrected/affected.{frame}.exr", "affected")
        assert np.array_equal(corrected, expected)


def test_everything_wrong_with_corrections_is_in_one_message_with_the_rest(shot):
    add, sub = paint(shot, "add", [1002, 1004]), paint(shot, "sub", [1, 2])
    (shot.folder / "add/add.1004.exr").write_bytes(b"not an EXR")
    (shot.folder / "matte/matte.1005.exr").unlink()
    with pytest.raises(RequestError) as caught:
        check.check_shot(
            check.find_files(shot.plate, shot.matte, affected_add=add, affected_sub=str(shot.folder / "sub")), PLAIN
        )
    for place in ("3 problems", "add.1004.exr", "1005", "Affected-sub has 1-2; the plate has 1001-1008"):
        assert place in caught.value.message, sub
    assert caught.value.hint


@pytest.mark.parametrize("role", ["affected_add", "affected_sub"])
def test_a_correction_must_be_named_after_its_frame(shot, role):
    tiny_shot.write_exr(shot.folder / "fix.exr", {"A": np.ones(SIZE, np.float16)})
    with pytest.raises(SequenceError, match=r"fix\.exr has no frame number"):
        check.find_files(shot.plate, shot.matte, **{role: str(shot.folder / "fix.exr")})


def test_a_correction_numbered_for_another_shot_is_refused_and_one_frame_too_many_is_warned_of(shot):
    add = paint(shot, "add", [2003])
    with pytest.raises(MatteError, match="Affected-add has 2003"):
        check.check_shot(check.find_files(shot.plate, shot.matte, affected_add=add), PLAIN)
    paint(shot, "add", [1003])
    checked = check.check_shot(check.find_files(shot.plate, shot.matte, affected_add=add), PLAIN)
    assert "2003" in dict(checked.warnings)["affected-add-outside"]
    # Outside what is read but inside the plate, it is simply of no use here: a farm's chunks read parts of a shot.
    (shot.folder / "add/add.2003.exr").unlink()
    part = ShotSettings(frames=FrameRange(1006, 1008), handles=0, physics_prior=False)
    checked = check.check_shot(check.find_files(shot.plate, shot.matte, affected_add=add), part)
    assert checked.mattes["affected_add"] == {}
    assert "affected-add-outside" not in dict(checked.warnings)


def test_taking_away_from_nothing_is_said(shot):
    files = check.find_files(shot.plate, shot.matte, affected_sub=paint(shot, "sub"))
    assert "nothing-to-correct" in dict(check.check_shot(files, PLAIN).warnings)
    assert "nothing-to-correct" not in dict(check.check_shot(files, ShotSettings()).warnings)


def test_a_preview_never_writes_over_what_was_painted(shot, tmp_path, capsys):
    add = paint(shot, "affected")
    words = [
        "effects",
        shot.plate,
        "--matte",
        shot.matte,
        "--affected-add",
        add,
        "--out",
        str(shot.folder / "affected"),
    ]
    before = (shot.folder / "affected/affected.1001.exr").read_bytes()
    assert cli.main(words) == 2
    assert "affected.1001.exr" in capsys.readouterr().err
    assert (shot.folder / "affected/affected.1001.exr").read_bytes() == before


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    data = tmp_path_factory.mktemp("daemon")
    with LiveDaemon(data / "data", pipeline="void_server.pipeline:deliver") as daemon:
        yield daemon


def test_through_the_daemon_it_is_a_local_runs_result_to_the_bit(shot, tmp_path, daemon):
    words = [shot.plate, "--matte", shot.matte, "--engine=propagate", "--no-physics-prior"]
    words += ["--affected-add", paint(shot, "add", [1002, 1003, 1007])]
    words += ["--affected-sub", paint(shot, "sub", [1003], HIGH)]
    assert cli.main(["run", *words, "--out", str(tmp_path / "run")]) == 0
    assert cli.main(["submit", *words, "--out", str(tmp_path / "sent"), "--server", daemon.address]) == 0
    names = sorted(path.name for path in (tmp_path / "run").glob("*.exr"))
    assert len(names) == 16
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "sent" / name).read_bytes()
    one, other = (json.loads((tmp_path / out / "manifest.json").read_text())["inputs"] for out in ("run", "sent"))
    for role in ("affected_add", "affected_sub"):
        assert {f: v["sha256"] for f, v in one[role].items()} == {f: v["sha256"] for f, v in other[role].items()}
    assert list(one["affected_sub"]) == ["1003"]


def test_a_stroke_more_sends_one_file_more(shot, tmp_path, daemon):
    files = check.find_files(shot.plate, shot.matte, affected_add=paint(shot, "add", [1002]))
    heard = []
    with daemon.client() as client:
        client.watch(client.submit(files, PLAIN).job)
        paint(shot, "add", [1006], CORNER)
        files = check.find_files(shot.plate, shot.matte, affected_add=str(shot.folder / "add"))
        job = client.submit(files, PLAIN, on_event=heard.append)
        assert client.watch(job.job).state == "done"
        client.fetch(job.job, tmp_path / "out")
    assert affected(tmp_path / "out", 1006)[CORNER].min() == 1
    sent = {event["frame"] for event in heard if event.get("stage") == "upload"}
    assert sent <= {1006}


def test_a_damaged_correction_is_named_by_the_daemon(shot, tmp_path, daemon):
    add = paint(shot, "add", [1002])
    path = shot.folder / "add/add.1002.exr"
    path.write_bytes(path.read_bytes()[:200])
    files = check.find_files(shot.plate, shot.matte)
    files = ShotFiles(files.plate, files.matte, affected_add={1002: path})
    with daemon.client() as client:
        status = client.watch(client.submit(files, PLAIN).job)
    assert status.state == "failed", add
    assert status.error.frame == 1002
    assert isinstance(status.error, RequestError)


def test_a_preview_through_the_daemon_is_corrected_and_brings_its_movie(shot, tmp_path, daemon):
    files = check.find_files(shot.plate, shot.matte, affected_add=paint(shot, "add", [1002]))
    settings = ShotSettings(engine="propagate", physics_prior=False, deliver="affected")
    with daemon.client() as client:
        job = client.watch(client.submit(files, settings).job)
        client.fetch(job.job, tmp_path / "out")
    assert tiny_shot.read_channel(tmp_path / "out/affected.1002.exr", "affected")[LOW].min() == 1
    assert not tiny_shot.read_channel(tmp_path / "out/affected.1001.exr", "affected").any()
    assert (tmp_path / "out/affected.mp4").is_file() == (shutil.which("ffmpeg") is not None)


def test_what_would_move_is_shown_as_suspected_and_not_painted_over(shot, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "shipped", lambda: Believes(appearance=0.0, physics=0.95))
    denied = paint(shot, "sub", where=HIGH)
    remove(shot, tmp_path / "out", ShotSettings(engine="propagate"), affected_sub=denied)
    names = ("affected", "suspected", "physics", "change")
    aov = {n: tiny_shot.read_channel(tmp_path / "out/aov.1001.exr", n) for n in names}
    assert aov["suspected"][LOW][:, :20].min() > 0.9 and not aov["affected"][LOW].any()
    for name in ("suspected", "physics"):
        assert not aov[name][HIGH].any(), f"{name}: the artist said that there is none"
    assert not aov["change"][LOW].any()
    plate = shot.folder / "plate/plate.1001.exr"
    kept = aov["change"] == 0
    assert np.array_equal(bits(tmp_path / "out/clean.1001.exr")[kept], bits(plate)[kept])
