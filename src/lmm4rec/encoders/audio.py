"""Audio: one vector for an item's sound file, from Whisper's encoder or CLAP."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import resample_poly
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.inputs import spectrograms_of
from lmm4rec.nn.text import render
from lmm4rec.nn.transformers.hugging_face import (
    check_loaded,
    draw_from_seed,
    load_model,
    loading,
    save_parts,
    transformers_library,
    without_report,
)
from lmm4rec.nn.transformers.towers import Tower, fixed_tower

__all__ = ["Audio"]

_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
_HOP = 2  # spectrogram frames in one of Whisper's states


class Audio(Encoder):
    """Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) or CLAP (Wu et al. 2023, arXiv 2211.06687).

    `checkpoint` is a local folder in the Hugging Face layout or a hub name. Sound files (WAV, FLAC, OGG, MP3) lie in
    `sounds`, named by the item's id, or as the template `file` says. The beginning of each is read, as much as the
    checkpoint hears at once (Whisper 30 seconds, CLAP 10), as one channel at the checkpoint's rate.

    The vector is Whisper's mean state over the frames with sound, or CLAP's projection, L2-normalized.
    """

    saved_options = ("sounds", "file")
    below_blocks: Mapping[Modality, Sequence[str]] = {
        "audio": (
            "encoder.conv",
            "encoder.embed_positions",
            "audio_model.audio_encoder.patch",
            "audio_model.audio_encoder.batch",
        ),
    }
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
            self.model.encoder.layerdrop = 0.0  # a left out block could not be entered
            missing = {name for name in missing if name.startswith("encoder.")}
        check_loaded(checkpoint, source, missing)
        self.sounds, self.file = sounds, file
        config = self.model.config
        self.dims = {"audio": int(config.d_model if self.kind == "whisper" else config.projection_dim)}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The spectrograms as the checkpoint's extractor computes them; zeros where no file can be read."""
        waves = [self._wave(self._path(item)) for item in items]
        silence = np.zeros(self.extractor.hop_length, dtype=np.float32)
        spectrograms = [self._spectrogram(silence if wave is None else wave) for wave in waves]
        stacked = torch.stack(spectrograms)
        frames = torch.tensor(
            [0 if wave is None else math.ceil(len(wave) / self.extractor.hop_length) for wave in waves]
        )
        longest = stacked.shape[3 if self.kind == "whisper" else 2]
        mask = torch.arange(longest) < frames[:, None]
        stacked[~mask.any(dim=1)] = 0.0
        return Inputs(spectrograms=stacked, sound_mask=mask)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the sounds."""
        return {"audio": self._audio(inputs)}

    def towers(self) -> Mapping[Modality, Tower]:
        """Whisper's blocks, read at the mean of the frames with sound, or CLAP's stages, read at their mean."""
        silence = self._spectrogram(np.zeros(self.extractor.hop_length, dtype=np.float32))
        blank = Inputs(spectrograms=torch.zeros_like(silence)[None])
        if self.kind == "whisper":
            return {"audio": fixed_tower(self.model.encoder.layers, self._audio, blank, _mean_with_sound)}
        stages = self.model.audio_model.audio_encoder.layers
        return {"audio": fixed_tower(stages, self._audio, blank, lambda states, _inputs: states.mean(dim=1))}

    def names_file(self, item: Item) -> bool:
        """Whether the item has a sound file."""
        return self._path(item) is not None

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
            logging.getLogger(__name__).warning("items without a sound file: %d (%s); masked", len(without), examples)

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

    def _audio(self, inputs: Inputs) -> Float[Tensor, "rows dim"]:
        # entered at an upper block it returns more rows than the one blank spectrogram
        spectrograms = spectrograms_of(inputs)
        if self.kind == "whisper":
            states = self.model.encoder(spectrograms[:, 0]).last_hidden_state
            return F.normalize(_mean_with_sound(states, inputs), dim=1)
        longer = torch.zeros(len(spectrograms), 1, dtype=torch.bool, device=spectrograms.device)
        return F.normalize(self.model(input_features=spectrograms, is_longer=longer).audio_embeds, dim=1)

    def _wave(self, path: Path | None) -> Float[np.ndarray, " samples"] | None:
        """The beginning of a sound file, as much as the checkpoint hears; None where it cannot be read."""
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
        return cast(np.ndarray, found[: round(self._seconds * rate)])

    @property
    def _seconds(self) -> float:
        """How much the checkpoint hears at once."""
        return float(self.extractor.chunk_length if self.kind == "whisper" else self.extractor.max_length_s)

    def _spectrogram(self, wave: Float[np.ndarray, " samples"]) -> Float[Tensor, "channels height width"]:
        """The spectrogram as the model takes it: Whisper's of one channel, bands by frames; CLAP's frames by bands."""
        with torch.autocast("cpu", enabled=False):  # Whisper's extractor computes with torch
            extracted = self.extractor(wave, sampling_rate=self.extractor.sampling_rate, return_tensors="np")
        spectrogram = torch.from_numpy(np.asarray(extracted["input_features"][0], dtype=np.float32))
        return spectrogram[None] if spectrogram.ndim == 2 else spectrogram


def _mean_with_sound(states: Float[Tensor, "rows frames width"], inputs: Inputs) -> Float[Tensor, "rows width"]:
    """The mean of Whisper's states over the frames with sound; over all where the inputs do not tell."""
    if inputs.sound_mask is None:
        return states.mean(dim=1)
    # at least one state: an item without sound has zeros, and is masked
    last = (inputs.sound_mask.sum(dim=1) / _HOP).ceil().clamp(1, states.shape[1])
    heard = torch.arange(states.shape[1], device=states.device) < last[:, None]
    return (states * heard[..., None]).sum(1) / last[:, None]
