"""Weights: exactly the files that are needed, resumed, verified, explained; never a pickle, never a damaged file."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [void]")
pytest.importorskip("huggingface_hub", reason="needs the extra [void]")

from tests.fakes import tiny_void as tiny  # noqa: E402
from tests.fakes.hub import FakeHub  # noqa: E402
from void_server.engine.void.model import loading, weights  # noqa: E402
from void_server.wire.errors import WeightsError  # noqa: E402
from void_server.wire.report import Report  # noqa: E402

FOREIGN = ["transformer/diffusion_pytorch_model.safetensors", "README.md"]


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    """A folder with every file under its real name: the text encoder in two shards of the released names."""
    folder = tiny.write_weights(tmp_path_factory.mktemp("weights"), refine=True)
    assert {p.name for p in (folder / tiny.BASE / "text_encoder").glob("*.safetensors")} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert weights.check(folder, refine=True) == []
    return folder


@pytest.fixture
def folder(complete, tmp_path):
    shutil.copytree(complete, tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def hub(complete, monkeypatch, tmp_path):
    files = {weights.VOID_REPO: {}, weights.BASE_REPO: dict.fromkeys(FOREIGN, b"not wanted")}
    for file in weights.FILES:
        files[file.repo][file.name] = weights.place(complete, file).read_bytes()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with FakeHub(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


class Heard:
    def __init__(self):
        self.events = []
        self.report = Report(self.events.append)

    def notes(self):
        return [e["message"] for e in self.events if e["event"] == "note"]


def test_exactly_what_is_needed_is_fetched_and_loads(hub, tmp_path):
    weights.fetch(tmp_path / "w", Report())
    wanted = sorted(f.name for f in weights.FILES if not f.refine_only)
    assert sorted(hub.served) == wanted
    assert weights.check(tmp_path / "w") == []
    pipe = loading.load_pipeline(tmp_path / "w", refine=False, dtype=torch.float32, vae_dtype=torch.float32)
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"


def test_refine_fetches_the_second_checkpoint_and_nothing_again(hub, tmp_path):
    weights.fetch(tmp_path / "w", Report())
    hub.served.clear()
    weights.fetch(tmp_path / "w", Report(), refine=True)
    assert hub.served == ["void_pass2.safetensors"]


def test_licences_are_named_before_the_first_byte(hub, tmp_path):
    heard = Heard()
    served_at = []
    report = Report(lambda e: (heard.events.append(e), served_at.append(len(hub.served))))
    weights.fetch(tmp_path / "w", report)
    named = [i for i, e in enumerate(heard.events) if "licence" in e.get("message", "")]
    assert len(named) == 2
    assert all(served_at[i] == 0 for i in named)
    assert "CogVideoX License" in heard.events[named[0]]["message"]


def test_an_interrupted_fetch_resumes_where_it_stopped(hub, tmp_path, monkeypatch):
    # The client keeps whole chunks of 10 MB; the tiny files here are smaller than one.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.break_off["void_pass1.safetensors"] = 5000
    weights.fetch(tmp_path / "w", Report())
    assert weights.check(tmp_path / "w") == []
    assert any(line.startswith("void_pass1.safetensors bytes=") for line in hub.ranges)


def test_a_file_that_is_not_what_the_hub_states_is_refused_by_name(hub, tmp_path):
    original = hub.files[weights.VOID_REPO]["void_pass1.safetensors"]
    hub.lies["void_pass1.safetensors"] = original[:-4] + b"evil"
    with pytest.raises(WeightsError, match=r"void_pass1\.safetensors.*hash differs"):
        weights.fetch(tmp_path / "w", Report())


def test_an_unreachable_hub_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as caught:
        weights.fetch(tmp_path / "w", Report())
    assert "HF_ENDPOINT" in caught.value.hint


def test_offline_a_complete_folder_is_accepted_and_recorded(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.fetch(folder, Report(), refine=True)
    record = json.loads((folder / weights.RECORD).read_text())
    assert len(record["files"]) == len(weights.FILES)
    assert record["licences"] == weights.LICENCES


def test_offline_a_missing_file_is_named(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (folder / "void_pass1.safetensors").unlink()
    with pytest.raises(WeightsError, match="void_pass1"):
        weights.fetch(folder, Report())


@pytest.mark.parametrize(
    ("name", "refused_by"),
    [
        ("void_pass1.safetensors", "transformer"),
        (f"{tiny.BASE}/vae/diffusion_pytorch_model.safetensors", "autoencoder"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "tampered", "not safetensors", "a pickle"])
def test_a_damaged_file_is_refused_by_name(folder, monkeypatch, name, refused_by, damage):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.fetch(folder, Report())
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-10]
    elif damage == "tampered":
        content[-5] ^= 0x40
    elif damage == "not safetensors":
        content = bytearray(b"hello")
    else:
        content = bytearray(b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94")
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=path.name):
        loading.load_pipeline(folder, refine=False, dtype=torch.float32, vae_dtype=torch.float32)
    findings = weights.check(folder)
    assert len(findings) == 1
    assert path.name in findings[0]


def test_a_truncated_file_is_refused_without_any_record_too(folder):
    path = folder / "void_pass1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"void_pass1\.safetensors has \d+ bytes where its header promises"):
        loading.load_pipeline(folder, refine=False, dtype=torch.float32, vae_dtype=torch.float32)


def test_weights_of_another_model_are_refused_by_name(folder):
    shutil.copy(folder / tiny.BASE / "vae" / "diffusion_pytorch_model.safetensors", folder / "void_pass1.safetensors")
    with pytest.raises(WeightsError, match=r"void_pass1\.safetensors does not hold VOID's transformer"):
        loading.load_pipeline(folder, refine=False, dtype=torch.float32, vae_dtype=torch.float32)


def test_check_explains_what_is_missing_and_what_is_never_loaded(folder):
    shutil.rmtree(folder / tiny.BASE / "vae")
    (folder / "extra.bin").write_bytes(b"pickle")
    findings = weights.check(folder)
    assert any("vae/config.json is missing" in f for f in findings)
    assert any("431.0 MB" in f and weights.BASE_REPO in f for f in findings)
    assert any("extra.bin is a pickle" in f for f in findings)
    assert weights.check(folder / "nowhere") == [f"Folder {folder / 'nowhere'} does not exist."]


def test_a_sharded_transformer_loads_like_a_whole_one(folder):
    from safetensors.torch import load_file, save_file

    whole = load_file(folder / "void_pass1.safetensors")
    names = sorted(whole)
    (folder / "void_pass1.safetensors").unlink()
    index = {}
    for part, chosen in enumerate((names[::2], names[1::2]), 1):
        shard = f"void_pass1-0000{part}-of-00002.safetensors"
        save_file({name: whole[name] for name in chosen}, folder / shard)
        index |= dict.fromkeys(chosen, shard)
    (folder / "void_pass1.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    model = loading.load_transformer(folder, "void_pass1", tiny.TRANSFORMER["in_channels"], torch.float32)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in model.state_dict().items())


def test_no_remote_code_and_no_pickle_is_ever_asked_for():
    from pathlib import Path

    sources = [p.read_text() for p in Path(weights.__file__).parent.glob("*.py")]
    assert not any("trust_remote_code" in s or "torch.load(" in s or "import pickle" in s for s in sources)
    loaders = [s for s in sources if ".from_pretrained(" in s and "DiffusionPipeline" not in s]
    assert all("use_safetensors=True" in s for s in loaders)
