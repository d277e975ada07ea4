"""Audio: one vector for an item's sound file, from Whisper's encoder or CLAP."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.signal import resample_poly
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.inputs import pixels_of
from lmm4rec.nn.text import render
from lmm4rec.nn.transformers.checkpoints import check_weights
from lmm4rec.nn.transformers.hugging_face import (
    draw_from_seed,
    load_model,
    loading,
    save_parts,
    transformers_library,
    without_report,
)

__all__ = ["Audio"]

_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
_HOP = 2  # spectrogram frames in one of Whisper's states


class Audio(Encoder):
    """Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) or CLAP (Wu et al. 2023, arXiv 2211.06687).

    `checkpoint` is a local folder in the Hugging Face layout or a hub name. Sound files (WAV, FLAC, OGG, MP3) lie in
    `sounds`, named by the item's id, or as the template `file` says. The beginning of each is read, as much as the
    checkpoint hears at once (Whisper 30 seconds, CLAP 10), as one channel at the checkpoint's rate.

    The vector is Whisper's mean state over the frames with sound, or CLAP's projection, L2-normalized. `pixels` holds
    the spectrogram as the checkpoint's extractor computes it, one more column with the number of frames with sound.
    """

    saved_options = ("sounds", "file")
    about: ClassVar = {
        "gives": "audio; Whisper base 512-d, large 1280-d, CLAP 512-d",
        "weights": 'a Hugging Face folder or hub name; "tiny" (a small Whisper)',
        "parameters": "Whisper base's encoder 20,590,592",
    }

    def __init__(
        self,
        *,
        checkpoint: Annotated[str, Doc("Folder or hub name.")],
        sounds: Annotated[str, Doc("Folder of the sound files.")] = "",
        file: Annotated[str, Doc("Template of a file's path in it, such as {audio}; empty: the item's id.")] = "",
    ) -> None:
        """Raises ConfigError where there is no such model under `checkpoint`, MissingExtraError without the extra."""
        super().__init__()
        self.model: Any
        expected = "a folder with config.json, model.safetensors and preprocessor_config.json"
        with loading(checkpoint, kind="audio model", expected=expected) as source:
            transformers = transformers_library("audio")
            self.kind: str = transformers.AutoConfig.from_pretrained(source).model_type
            classes = {"whisper": "WhisperForAudioClassification", "clap": "ClapAudioModelWithProjection"}
            classes["clap_audio_model"] = classes["clap"]
            if self.kind not in classes:
                raise ConfigError(
                    f"checkpoint '{checkpoint}' is a {self.kind}; the encoder 'audio' reads Whisper, CLAP"
                )
            with without_report(transformers):  # of the decoder's weights, which are left out
                self.model, missing = load_model(getattr(transformers, classes[self.kind]), source)
            self.extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(source)
        if self.kind == "whisper":  # the class is that of a classifier: the head would be drawn at random
            self.model.projector = self.model.classifier = None
            missing = {name for name in missing if name.startswith("encoder.")}
        check_weights(checkpoint, missing)
        self.sounds, self.file = sounds, file
        config = self.model.config
        self.dims = {"audio": int(config.d_model if self.kind == "whisper" else config.projection_dim)}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The spectrograms; zeros for an item without a file that can be read."""
        spectrograms = [self._spectrogram(self._path(item)) for item in items]
        has_audio = torch.tensor([one is not None for one in spectrograms], dtype=torch.bool)
        readable = [one for one in spectrograms if one is not None]
        empty = torch.zeros_like(readable[0] if readable else self._extracted(np.zeros(160, dtype=np.float32)))
        return Inputs(pixels=torch.stack([empty if one is None else one for one in spectrograms]), has_image=has_audio)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the sounds."""
        pixels = pixels_of(inputs)
        spectrograms, counts = pixels[..., :-1], pixels[:, 0, 0, -1]
        if self.kind == "whisper":
            states = self.model.encoder(spectrograms[:, 0]).last_hidden_state
            # at least one state: an item without sound has zeros, and is masked
            last = (counts / _HOP).ceil().clamp(1, states.shape[1])
            heard = torch.arange(states.shape[1], device=states.device) < last[:, None]
            return {"audio": F.normalize((states * heard[..., None]).sum(1) / last[:, None], dim=1)}
        longer = torch.zeros(len(pixels), 1, dtype=torch.bool, device=pixels.device)
        return {"audio": F.normalize(self.model(input_features=spectrograms, is_longer=longer).audio_embeds, dim=1)}

    def present(self, inputs: Inputs) -> dict[Modality, Bool[Tensor, " batch"]]:
        """The rows that have sound."""
        pixels = pixels_of(inputs)
        every_row = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
        return {"audio": every_row if inputs.has_image is None else inputs.has_image}

    def computable(self, inputs: Inputs) -> list[Modality]:
        """The sounds' vectors; ConfigError where there is no spectrogram."""
        pixels_of(inputs)
        return ["audio"]

    def item_digest(self, item: Item) -> str:
        """A digest of the item's sound file."""
        path = self._path(item)
        return fingerprint("" if path is None else hashlib.sha256(path.read_bytes()).hexdigest())

    def learn_catalog(self, items: Sequence[Item]) -> None:
        """Look whether the items have files: some without are counted and named.

        Raises:
            ConfigError: none has.
        """
        without = [item.id for item in items if self._path(item) is None]
        if len(without) == len(items):
            looked = self.file or "the item's id and one of " + ", ".join(_ENDINGS)
            raise ConfigError(f"no item has a sound file in folder '{self.sounds}', named by {looked}")
        if without:
            examples = ", ".join(without[:3])
            logging.getLogger(__name__).warning("%d items have no sound file (%s); masked", len(without), examples)

    def settings(self) -> dict[str, object]:
        """The extractor's values and the architecture."""
        return {"extractor": self.extractor.to_json_string(), "architecture": self.model.config.to_json_string()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout."""
        settings = {"encoder": "audio", "sounds": self.sounds, "file": self.file}
        save_parts(folder, (self.model, self.extractor), settings)

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained Whisper that hears two seconds, in the Hugging Face layout; it reads no texts."""
        transformers = transformers_library("audio")
        config = transformers.WhisperConfig(
            d_model=64, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=128, decoder_layers=1,
            decoder_attention_heads=2, decoder_ffn_dim=64, max_source_positions=100, num_mel_bins=20, vocab_size=8,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        extractor = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=2)
        save_parts(folder, (draw_from_seed(lambda: transformers.WhisperModel(config), seed), extractor))

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files of the folder by their names without ending."""
        folder = Path(self.sounds)
        if not self.sounds or not folder.is_dir():
            return {}
        return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _ENDINGS}

    def _path(self, item: Item) -> Path | None:
        if not self.file:
            return self._files.get(item.id)
        path = Path(self.sounds) / render(self.file, item.fields)
        return path if path.is_file() else None

    def _spectrogram(self, path: Path | None) -> Float[Tensor, "channels rows columns"] | None:
        if path is None:
            return None
        library = optional("soundfile", extra="audio", purpose="the encoder 'audio'")
        rate = self.extractor.sampling_rate
        try:
            with library.SoundFile(str(path)) as file:
                found = file.read(math.ceil(self._seconds * file.samplerate), dtype="float32", always_2d=True).mean(1)
                own_rate = file.samplerate
        except (OSError, RuntimeError):  # soundfile's errors are RuntimeErrors
            return None
        if not len(found) or not np.isfinite(found).all():
            return None
        if own_rate != rate:
            common = math.gcd(own_rate, rate)
            found = resample_poly(found, rate // common, own_rate // common).astype(np.float32)
        return self._extracted(found[: round(self._seconds * rate)])

    @property
    def _seconds(self) -> float:
        """How much the checkpoint hears at once."""
        return float(self.extractor.chunk_length if self.kind == "whisper" else self.extractor.max_length_s)

    def _extracted(self, wave: Float[np.ndarray, " samples"]) -> Float[Tensor, "channels rows columns"]:
        """The spectrogram as the model takes it, and the column of the number of frames with sound."""
        rate = self.extractor.sampling_rate
        with torch.autocast("cpu", enabled=False):  # Whisper's extractor computes with torch
            extracted = self.extractor(wave, sampling_rate=rate, return_tensors="np")["input_features"][0]
        spectrogram = torch.from_numpy(np.asarray(extracted, dtype=np.float32))
        spectrogram = spectrogram[None] if spectrogram.ndim == 2 else spectrogram
        frames = float(math.ceil(len(wave) / self.extractor.hop_length))
        return torch.cat([spectrogram, spectrogram.new_full((*spectrogram.shape[:2], 1), frames)], dim=2)
