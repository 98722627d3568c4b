"""`bench void` with tiny models on the CPU: every row is there, and its figures mean what they say."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("diffusers", reason="needs the extra [void]")

from tests.fakes import tiny_void as tiny  # noqa: E402
from void_server.bench import run as bench  # noqa: E402
from void_server.bench.engines import void, void_models  # noqa: E402
from void_server.engine.void import memory  # noqa: E402
from void_server.wire.errors import SettingsError  # noqa: E402
from void_server.wire.report import Report  # noqa: E402


@pytest.fixture
def size(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return void_models.Size(tiny.TRANSFORMER, tiny.VAE, frames=21, height=32, width=48, steps=9)


def test_passes_are_told_apart_and_drafts_and_8_bits_stay_near(size):
    figures, text = void.run(None, ["pass"], Report(), size=size, device="cpu")
    rows = {row["what"]: row for row in figures["pass"]}
    assert list(rows) == ["ours, preset=released", "ours", "ours, draft", "ours, precision=fp8"]
    assert rows["ours"]["steps"] == 9
    assert rows["ours, draft"]["steps"] == 8
    assert 0 < rows["ours, precision=fp8"]["apart"]["relative"] < 0.1
    assert rows["ours"]["apart"]["relative"] < 0.02 < rows["ours, draft"]["apart"]["relative"]
    assert all(row["seconds"] > 0 and row["decode_s"] > 0 for row in rows.values())
    json.dumps(figures)
    assert "precision=fp8" in text


def test_every_tier_is_run_by_name_through_the_engine(size):
    figures, text = void.run(None, ["memory"], Report(), size=size, device="cpu")
    assert [(row["memory"], row["done"], row["retried"]) for row in figures["memory"]] == [
        (name, True, False) for name in memory.NAMES
    ]
    assert all(row["chosen"] == [f"memory={row['memory']}"] for row in figures["memory"])
    assert "sequential" in text


def test_a_machine_without_a_card_and_a_folder_without_the_release_are_told_so(tmp_path, monkeypatch, size):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="needs a CUDA device"):
        bench.run("void", None, None, Report())
    with pytest.raises(SettingsError, match="no checkout"):
        void.run(tmp_path, ["pass"], Report(), size=size, device="cpu")
    with pytest.raises(SettingsError, match="no case 'tea'"):
        void.run(None, ["tea"], Report(), size=size, device="cpu")
