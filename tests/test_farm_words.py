"""The words that travel to a farm and back: flags, ranges, path rules, log lines, YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests import tiny_shot
from tests.farm_floor import void_server
from void_server import pipeline
from void_server.commands import shot_flags
from void_server.commands.terminal.console import Console, log_format
from void_server.farm import chunks, path_mapping, yaml_text
from void_server.farm.dialects import UNTOLD, Dialect
from void_server.farm.shot import FarmShot, setting_words
from void_server.shot import check
from void_server.wire.errors import EngineError, SettingsError
from void_server.wire.report import SHARES, Report
from void_server.wire.shot import FrameRange, ShotSettings

PLATE = ["/p/p.####.exr", "--matte=/m", "--out=/o"]


@pytest.mark.parametrize(
    "settings",
    [
        ShotSettings(),
        ShotSettings(
            engine="void", effects="bold", quality="fine", physics_prior=False, prompt="-- a 'b' = c", seed=9, handles=0
        ),
        ShotSettings(colorspace="acescg", layer="beauty", matte_channel="roto.A", device="cuda:1", missing="hold"),
        ShotSettings(grow_px=0.0, feather_px=7.25, options={"steps": 30, "quick": True, "size": "672x384", "t": 0.5}),
    ],
)
def test_settings_survive_the_command_line(settings):
    assert shot_flags.settings(shot_flags.reader().parse_args([*PLATE, *setting_words(settings)])) == settings


@pytest.mark.parametrize("count", [1, 7, 8, 23, 48, 1000])
@pytest.mark.parametrize("most", [1, 8, 10, 100])
def test_chunks_cover_every_frame_once_and_are_about_as_long(count, most):
    shot = FrameRange(-3, count - 4)
    parts = chunks.split(shot, chunks.evened(shot, most))
    assert [frame for part in parts for frame in part] == list(shot)
    assert all(len(part) <= most for part in parts)
    assert [chunks.parse_folder(chunks.folder(Path("o"), part).name) for part in parts] == parts


def test_shares_of_two_chunks_add_up_and_meet_in_the_middle():
    shares = [chunks.share_of_later(frame, 1025, 4) for frame in range(1020, 1031)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares[4] + shares[5] == pytest.approx(1)


@pytest.mark.parametrize(
    "rule, path, here",
    [
        (path_mapping.Rule("/mnt/show", "/data"), "/mnt/show/a/p.####.exr", "/data/a/p.####.exr"),
        (path_mapping.Rule("/mnt/show/", "/data/"), "/mnt/show/a", "/data/a"),
        (path_mapping.Rule("/mnt/show", "/data"), "/mnt/showreel/a", "/mnt/showreel/a"),
        (path_mapping.Rule("/mnt/show", "/data"), "/MNT/show/a", "/MNT/show/a"),
        (path_mapping.Rule("Z:\\", "/mnt/z", windows=True), "z:\\Show\\p.####.exr", "/mnt/z/Show/p.####.exr"),
        (path_mapping.Rule("\\\\nas\\show", "/mnt", windows=True), "\\\\NAS\\show\\a b\\p.exr", "/mnt/a b/p.exr"),
        (path_mapping.Rule("/mnt/show", "Z:\\show"), "/mnt/show/a/p.exr", "Z:\\show\\a\\p.exr"),
    ],
)
def test_path_rules_match_whole_folders(rule, path, here):
    assert path_mapping.mapped(path, [rule]) == here


def test_the_longest_rule_speaks_first_and_damaged_rules_are_refused(tmp_path):
    path = tmp_path / "rules.json"
    rules = [
        {"source_path_format": "POSIX", "source_path": source, "destination_path": to}
        for source, to in (("/a", "/short"), ("/a/b", "/long"))
    ]
    path.write_text(json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": rules}))
    assert path_mapping.mapped("/a/b/c", path_mapping.read(path)) == "/long/c"
    path.write_text("{}")
    assert path_mapping.read(path) == []
    for text in ("[", '{"version": "2"}', '{"version": "pathmapping-1.0", "path_mapping_rules": [{}]}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="can't be read"):
            path_mapping.read(path)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [{"b": [1, "no", "1e3", ""], "c": {}}, []], "d": {"e": "x: y # z", "f": True, "g": None, "h": 1.5}},
        {"é": ["\\", "'", "{{Param.X}}", "😀", "- a", "%", "@", "`"]},
    ],
)
def test_yaml_says_what_was_meant(value):
    assert yaml.safe_load(yaml_text.dump(value)) == value


@pytest.mark.parametrize("name, word", [("deadline", "VOID_PROGRESS "), ("openjd", "openjd_progress: ")])
def test_progress_never_runs_backwards_and_stays_under_a_hundred(name, word):
    dialect, said = Dialect(name), []
    for stage, total in (
        ("hash", 400),
        ("read", 3),
        ("unheard-of", 5),
        ("affected", 7),
        ("effects", 7),
        ("read", 3),
        ("frames", 0),
        ("sheet", 2),
    ):
        for done in range(total + 1):
            said += dialect.lines({"event": "progress", "stage": stage, "done": done, "total": total, "frame": done})
    percents = [float(line.removeprefix(word)) for line in said if line.startswith(word)]
    assert percents == sorted(set(percents))
    assert 0 <= percents[0] <= percents[-1] <= 100
    assert len([line for line in said if "hash" in line]) < 10, "a farm keeps every line for good"


def test_every_stage_of_a_run_has_its_share_of_a_farms_percent(tmp_path):
    shot = tiny_shot.write(tmp_path / "shot")
    stages = []
    report = Report(lambda event: stages.append(event["stage"]) if event["event"] == "progress" else None)
    files = check.find_files(shot.plate, shot.matte)
    pipeline.make_clean_plate(files, ShotSettings(engine="propagate"), tmp_path / "out", report)
    told = [stage for stage in dict.fromkeys(stages) if stage not in UNTOLD]
    assert set(told) <= set(SHARES)
    assert {"read", "look", "masks", "effects", "frames", "sheet"} <= set(told)


@pytest.mark.parametrize("name", ["deadline", "openjd"])
def test_no_text_can_pass_for_a_message_of_its_own(name):
    error = EngineError("Broken.\nopenjd_env: PATH=/evil\nVOID_PROGRESS 100", "Look\r\nthere.", frame=1003)
    (line,) = Dialect(name).fail(error)
    assert "\n" not in line
    assert "\r" not in line
    assert "(frame 1003)" in line
    assert line.startswith(("VOID_ERROR ", "openjd_fail: "))


def test_a_wrong_flag_is_told_in_the_farms_words():
    assert void_server("run", "--log-format", "openjd", status=2).stdout.startswith("openjd_fail: ")
    assert void_server("farm", "task", "--log-format=deadline", status=2).stdout.startswith("VOID_ERROR ")
    assert log_format(["--log-format"]) == "human"
    assert log_format(["--log-format", "klingon"]) == "human"


def test_json_and_its_old_name_are_the_same(capsys):
    for words in (["--json"], ["--log-format", "json"], ["--log-format=json"]):
        Console(log_format(words)).result({"x": 1}, "text")
        assert json.loads(capsys.readouterr().out) == {"event": "result", "x": 1}


def test_a_farm_shot_knows_its_result_before_it_is_made(tmp_path):
    shot = FarmShot("p.####.exr", "m", str(tmp_path / "sh010/clean"), FrameRange(1, 2))
    assert shot.clean == str(tmp_path / "sh010/clean/clean.####.exr")
    assert shot.name == "clean"
    assert shot.plate.startswith("/")
