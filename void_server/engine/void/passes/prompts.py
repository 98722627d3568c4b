"""Prompts turned into embeddings once, and kept on disk: a known prompt needs no 9.5 GB text encoder.

What comes in: a text and the folder of the text encoder. What goes out: its embedding [1, tokens, channels]. It knows
nothing of video.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from void_server.engine.void.model import weights
from void_server.wire.errors import WeightsError
from void_server.wire.report import Report


def default_cache() -> Path:
    """A folder of the user who runs this; never one that a shot's settings name, which may come from elsewhere."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "void-server" / "prompts"


class PromptBook:
    """Embeddings of texts for one set of weights. tokens: the length the transformer was trained with (226)."""

    def __init__(self, folder: Path, tokens: int, dtype: torch.dtype, cache: Path | None = None) -> None:
        self._folder = folder
        self._base = weights.base_folder(folder)
        self._tokens = tokens
        self._dtype = dtype
        self._cache = cache or default_cache()

    def embed(self, texts: list[str], device: torch.device, report: Report) -> list[torch.Tensor]:
        """[1, tokens, channels] for each text, on the CPU. The text encoder is loaded only for texts not yet known, and
        gone from memory afterwards. Raises WeightsError where it is needed and incomplete."""
        known = {text: self._read(text) for text in dict.fromkeys(texts)}
        new = [text for text, embedding in known.items() if embedding is None]
        if new:
            report.note(f"{len(new)} new prompt(s): loading the text encoder")
            for text, embedding in zip(new, self._encode(new, device)):
                known[text] = embedding
                self.keep(text, embedding)
        return [embedding for text in texts if (embedding := known[text]) is not None]

    def path(self, text: str) -> Path:
        """Where the embedding of a text lies; another encoder, length or precision gives another place."""
        about = hashlib.sha256()
        for part in (self._identity(), text, str(self._tokens), str(self._dtype)):
            about.update(part.encode() + b"\0")
        return self._cache / f"{about.hexdigest()[:32]}.safetensors"

    def _identity(self) -> str:
        """What tells one text encoder from another: its configuration, and names and sizes of its files."""
        encoder = self._base / "text_encoder"
        config = encoder / "config.json"
        parts = [config.read_text() if config.is_file() else ""]
        parts += [f"{path.name}:{path.stat().st_size}" for path in sorted(encoder.glob("*.safetensors"))]
        return "\n".join(parts)

    def _read(self, text: str) -> torch.Tensor | None:
        path = self.path(text)
        if not path.is_file():
            return None
        try:
            return load_file(path)["embedding"]
        except (SafetensorError, KeyError, OSError):
            return None

    def keep(self, text: str, embedding: torch.Tensor) -> None:
        """Lay an embedding where `embed` finds it."""
        # A cache that can't be written costs time, not the shot.
        with contextlib.suppress(OSError):
            self._cache.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=self._cache, suffix=".part")
            os.close(handle)
            save_file({"embedding": embedding.contiguous()}, partial)
            Path(partial).replace(self.path(text))

    def _encode(self, texts: list[str], device: torch.device) -> list[torch.Tensor]:
        from transformers import T5EncoderModel, T5Tokenizer
        from transformers.utils import logging

        # Progress is the report's business; a bar of the library's own would land in somebody's log.
        logging.disable_progress_bar()

        encoder_folder, tokenizer_folder = self._base / "text_encoder", self._base / "tokenizer"
        shards = sorted(encoder_folder.glob("*.safetensors"))
        if not shards or not tokenizer_folder.is_dir():
            raise WeightsError(
                f"The prompt is new, and {self._base} has no complete text_encoder and tokenizer.", weights.FETCH_HINT
            )
        weights.verify(self._folder, shards)
        try:
            tokenizer = T5Tokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
            encoder = T5EncoderModel.from_pretrained(
                encoder_folder, dtype=self._dtype, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise WeightsError(
                f"The text encoder in {self._base} can't be loaded: {error}", weights.FETCH_HINT
            ) from error
        encoder = encoder.to(device).eval()
        try:
            with torch.inference_mode():
                found = []
                for text in texts:
                    ids = tokenizer(
                        text,
                        padding="max_length",
                        max_length=self._tokens,
                        truncation=True,
                        add_special_tokens=True,
                        return_tensors="pt",
                    ).input_ids
                    # No attention mask, as released (pipeline_cogvideox_fun_inpaint.py:379).
                    found.append(encoder(ids.to(device))[0].to("cpu", self._dtype).clone())
                return found
        finally:
            del encoder
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
