"""The files VOID is made of: which, how large, under which licence; fetching them and saying what is wrong with them.

What comes in: a folder. What goes out: the same folder, filled and checked, or findings in words. It knows no tensors
and imports no torch; only safetensors are ever read, never a pickle.

The folder is laid out as the release's README lays it out, so one that serves the released code serves ours:

    DIR/void_pass1.safetensors                    11.1 GB   netflix/void-model
    DIR/void_pass2.safetensors                    11.1 GB   netflix/void-model, for --refine only
    DIR/CogVideoX-Fun-V1.5-5b-InP/vae/            431 MB    alibaba-pai/CogVideoX-Fun-V1.5-5b-InP
    DIR/CogVideoX-Fun-V1.5-5b-InP/text_encoder/   9.5 GB    (two shards)
    DIR/CogVideoX-Fun-V1.5-5b-InP/tokenizer/ scheduler/ transformer/config.json
    DIR/weights.json                              sizes and hashes as the hub stated them, written after the last file

The base model's own transformer, 11.1 GB, is not fetched: VOID's 1024 tensors replace all of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from void_server.wire.errors import WeightsError
from void_server.wire.report import Report

VOID_REPO = "netflix/void-model"
BASE_REPO = "alibaba-pai/CogVideoX-Fun-V1.5-5b-InP"
BASE_FOLDER = "CogVideoX-Fun-V1.5-5b-InP"
RECORD = "weights.json"
LICENCES = {
    VOID_REPO: "Apache-2.0",
    BASE_REPO: "CogVideoX License (listed as 'other'), which asks for registration before commercial use: "
    f"https://huggingface.co/{BASE_REPO}/blob/main/LICENSE",
}
FETCH_HINT = "Run void-server weights fetch DIR, or point VOID_WEIGHTS or --option weights=DIR at a complete folder."


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """One file: where it comes from, where it goes, and its size as the hub's pages list it, rounded."""

    repo: str
    name: str
    about_bytes: int
    refine_only: bool = False

    @property
    def local(self) -> str:
        return self.name if self.repo == VOID_REPO else f"{BASE_FOLDER}/{self.name}"


FILES = (
    WeightFile(BASE_REPO, "scheduler/scheduler_config.json", 482),
    WeightFile(BASE_REPO, "transformer/config.json", 887),
    WeightFile(BASE_REPO, "vae/config.json", 839),
    WeightFile(BASE_REPO, "tokenizer/added_tokens.json", 2_590),
    WeightFile(BASE_REPO, "tokenizer/special_tokens_map.json", 2_540),
    WeightFile(BASE_REPO, "tokenizer/spiece.model", 792_000),
    WeightFile(BASE_REPO, "tokenizer/tokenizer_config.json", 20_600),
    WeightFile(BASE_REPO, "text_encoder/config.json", 782),
    WeightFile(BASE_REPO, "text_encoder/model.safetensors.index.json", 19_900),
    WeightFile(BASE_REPO, "vae/diffusion_pytorch_model.safetensors", 431_000_000),
    WeightFile(BASE_REPO, "text_encoder/model-00001-of-00002.safetensors", 4_990_000_000),
    WeightFile(BASE_REPO, "text_encoder/model-00002-of-00002.safetensors", 4_530_000_000),
    WeightFile(VOID_REPO, "void_pass1.safetensors", 11_143_000_000),
    WeightFile(VOID_REPO, "void_pass2.safetensors", 11_143_000_000, refine_only=True),
)
"""Sizes from the hub's file listings; void_pass1 from its 1024 bf16 tensors of 5,571,462,784 numbers."""


def wanted(refine: bool = False) -> list[WeightFile]:
    return [file for file in FILES if refine or not file.refine_only]


def default_folder() -> Path:
    """VOID_WEIGHTS, else a folder in the user's cache."""
    named = os.environ.get("VOID_WEIGHTS")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "void-server" / "weights"


def base_folder(folder: Path) -> Path:
    """Where vae, scheduler and the rest of the base model lie: as the release has it, or right in the folder."""
    nested = folder / BASE_FOLDER
    return nested if nested.is_dir() or not (folder / "vae").is_dir() else folder


def place(folder: Path, file: WeightFile) -> Path:
    return folder / file.name if file.repo == VOID_REPO else base_folder(folder) / file.name


def safetensors_size(path: Path) -> int:
    """Bytes that the header of a safetensors file promises. Raises WeightsError if there is no sound header.

    Source: the format's README (huggingface/safetensors): 8 bytes little-endian header length, JSON, data.
    """
    hint = "Delete it and run void-server weights fetch again."
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(100_000_000, path.stat().st_size):
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except FileNotFoundError as error:
        raise WeightsError(f"Weight file {path} is missing.", FETCH_HINT) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"Weight file {path} is not a sound safetensors file: {error}.", hint) from error
    return 8 + int(length) + max(ends, default=0)


def verify(folder: Path, paths: Iterable[Path]) -> None:
    """Refuse, by name, any of these files that is missing, cut short, or not what was fetched. Raises WeightsError.

    Reads headers and sizes. A file whose time has changed since it was recorded is hashed against the record again.
    """
    record = _read_record(folder)
    for path in paths:
        finding = _finding(path, record.get(_key(folder, path)), rehash=False)
        if finding:
            raise WeightsError(finding, FETCH_HINT)


def check(folder: Path, refine: bool = False) -> list[str]:
    """What is missing or wrong in a folder, one sentence each; empty means all is well. Hashes every recorded file."""
    if not folder.is_dir():
        return [f"Folder {folder} does not exist."]
    record = _read_record(folder)
    findings = []
    for file in wanted(refine):
        path = place(folder, file)
        if not path.is_file() and file.name.startswith("text_encoder/model") and _other_shards(path.parent):
            continue
        if not path.is_file():
            findings.append(f"{file.local} is missing ({_size(file.about_bytes)}, from {file.repo}).")
            continue
        finding = _finding(path, record.get(_key(folder, path)), rehash=True)
        if finding:
            findings.append(finding)
    pickles = [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl") and p.is_file()]
    findings += [f"{path.relative_to(folder)} is a pickle and is never loaded; delete it." for path in sorted(pickles)]
    return findings


def missing(folder: Path, refine: bool = False) -> list[str]:
    """Names of the files a run can't do without. Cheap: looks, reads nothing."""
    needed = (f for f in wanted(refine) if not f.name.startswith(("text_encoder/", "tokenizer/")))
    return [f.local for f in needed if not place(folder, f).is_file() and not _sharded(place(folder, f)).is_file()]


def fetch(folder: Path, report: Report, refine: bool = False) -> None:
    """Bring every file that is wanted into `folder`, then hash it. Raises WeightsError.

    Resumes what was interrupted and keeps what is there and sound. Goes to HF_ENDPOINT if set, uses what lies in the
    hub's cache (HF_HOME), and with HF_HUB_OFFLINE=1 nothing else. Licences are named before the first byte.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors as hub_errors
    except ImportError as error:
        raise WeightsError(
            "huggingface_hub is not installed.", "Install it: pip install 'void-server[void]'."
        ) from error
    files = wanted(refine)
    for repo in dict.fromkeys(file.repo for file in files):
        report.note(f"{repo}: licence {LICENCES[repo]}")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    try:
        stated = {} if offline else _stated(huggingface_hub.HfApi(endpoint=endpoint), files)
        _check_room(folder, files, stated)
        for done, file in enumerate(files):
            report.progress("weights", done, len(files))
            entry = stated.get(file.local) or record.get(file.local)
            path = place(folder, file)
            if not (entry and path.is_file() and not _finding(path, entry, rehash=True)):
                report.note(f"{file.local}: {_size(entry['bytes'] if entry else file.about_bytes)} from {file.repo}")
                if offline:
                    _from_cache(huggingface_hub, file, path)
                else:
                    huggingface_hub.hf_hub_download(
                        file.repo,
                        file.name,
                        revision=entry["revision"] if entry else None,
                        local_dir=folder if file.repo == VOID_REPO else base_folder(folder),
                        endpoint=endpoint,
                    )
            record[file.local] = _measured(path, entry, file.repo)
            _write_record(folder, record)
        report.progress("weights", len(files), len(files))
    except (hub_errors.HfHubHTTPError, hub_errors.OfflineModeIsEnabled, OSError, *_transport_errors()) as error:
        raise WeightsError(
            f"Weights can't be fetched: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Run the command again to resume, set HF_ENDPOINT to a mirror, or copy a complete folder here.",
        ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the hub's client lets through when the network fails; its HTTP library changed name between versions."""
    found: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def _stated(api: Any, files: list[WeightFile]) -> dict[str, dict[str, Any]]:
    """What the hub says of each file: bytes, revision, and sha256 (large files) or git blob id (small ones)."""
    found = {}
    for repo in dict.fromkeys(file.repo for file in files):
        info = api.model_info(repo, files_metadata=True)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        for file in files:
            if file.repo != repo:
                continue
            sibling = siblings.get(file.name)
            if sibling is None:
                raise WeightsError(f"{repo} no longer holds {file.name}.", "Update void-server.")
            lfs = sibling.lfs
            entry = {"bytes": sibling.size, "revision": info.sha, "blob": sibling.blob_id}
            found[file.local] = entry | ({"sha256": lfs["sha256"]} if lfs else {})
    return found


def _check_room(folder: Path, files: list[WeightFile], stated: dict[str, dict[str, Any]]) -> None:
    need = sum(
        (stated.get(file.local) or {"bytes": file.about_bytes})["bytes"]
        for file in files
        if not place(folder, file).is_file()
    )
    free = shutil.disk_usage(folder).free
    if need > free:
        raise WeightsError(f"{folder} has {_size(free)} free; the weights need {_size(need)}.", "Use a larger disk.")


def _from_cache(hub: Any, file: WeightFile, path: Path) -> None:
    cached = hub.try_to_load_from_cache(file.repo, file.name)
    if path.is_file() and not isinstance(cached, str):
        return
    if not isinstance(cached, str):
        raise WeightsError(
            f"HF_HUB_OFFLINE is set and {file.local} is neither in {path.parent} nor in the hub's cache.",
            f"Copy it there from {file.repo}, or fetch while online.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    shutil.copyfile(cached, partial)
    partial.replace(path)


def _measured(path: Path, entry: dict[str, Any] | None, repo: str) -> dict[str, Any]:
    """The record of a file that was just fetched; refuses one that differs from what the hub stated."""
    finding = _finding(path, entry, rehash=True)
    if finding:
        raise WeightsError(finding, "Delete it and fetch again.")
    stat = path.stat()
    return {
        "repo": repo,
        "revision": (entry or {}).get("revision"),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": (entry or {}).get("sha256") or _sha256(path),
    }


def _finding(path: Path, entry: dict[str, Any] | None, rehash: bool) -> str:
    """What is wrong with one file, or nothing."""
    unsound = _unsound(path)
    if unsound or entry is None:
        return unsound
    stat = path.stat()
    if stat.st_size != entry["bytes"]:
        return f"Weight file {path} has {stat.st_size} bytes; the original has {entry['bytes']}."
    if not rehash and entry.get("mtime_ns") == stat.st_mtime_ns:
        return ""
    good = _sha256(path) == entry["sha256"] if entry.get("sha256") else _git_blob(path) == entry["blob"]
    return "" if good else f"Weight file {path} is not the original: its hash differs."


def _unsound(path: Path) -> str:
    """What a file's own structure says against it, or nothing."""
    if not path.is_file():
        return f"Weight file {path} is missing."
    if path.suffix != ".safetensors":
        return ""
    try:
        promised = safetensors_size(path)
    except WeightsError as error:
        return error.message
    size = path.stat().st_size
    return "" if size == promised else f"Weight file {path} has {size} bytes where its header promises {promised}."


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _git_blob(path: Path) -> str:
    """The id git gives a file's contents, which is what the hub states of files outside its large-file store."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sharded(path: Path) -> Path:
    return path.with_name(path.name + ".index.json")


def _other_shards(folder: Path) -> bool:
    """Whether a text encoder is there under other file names: one file, or shards of another size."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((folder / name).is_file() for name in named)


def _key(folder: Path, path: Path) -> str:
    local = path.relative_to(folder).as_posix()
    return local if "/" not in local or local.startswith(BASE_FOLDER) else f"{BASE_FOLDER}/{local}"


def _read_record(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        record: dict[str, dict[str, Any]] = json.loads((folder / RECORD).read_text())["files"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder / RECORD} can't be read: {error}.", "Delete it and fetch again.") from error
    return record


def _write_record(folder: Path, record: dict[str, dict[str, Any]]) -> None:
    partial = folder / (RECORD + ".part")
    partial.write_text(json.dumps({"licences": LICENCES, "files": record}, indent=1) + "\n")
    partial.replace(folder / RECORD)


def _size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
