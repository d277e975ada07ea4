"""`audio` against transformers' own Whisper and CLAP, on files of several formats and rates."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.encoders.audio import Audio
from lmm4rec.encoders.sentence import Sentence

transformers = pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

RATE = 16000


def wave(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.2 * np.sin(2 * np.pi * (200 + 150 * seed) * time) + 0.02 * noise).astype(np.float32)


def clap(folder: Path, *, fusion: bool) -> None:
    config = transformers.ClapAudioConfig(
        hidden_size=16, patch_embeds_hidden_size=8, depths=[1, 1], num_attention_heads=[2, 2], num_hidden_layers=2,
        spec_size=64, window_size=4, num_mel_bins=16, enable_fusion=fusion, projection_dim=12,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.ClapAudioModelWithProjection(config).eval()
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=RATE, max_length_s=1, hop_length=160, fft_window_size=256,
        truncation="fusion" if fusion else "rand_trunc", frequency_max=8000,
    )  # fmt: skip
    for part in (model, extractor):
        part.save_pretrained(folder)


def vectors(encoder: Audio, *ids: str) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(encoder.prepare([Item(id_) for id_ in ids]))["audio"]


def test_whisper_gives_the_mean_state_over_the_frames_with_sound(tmp_path: Path) -> None:
    Audio.write_tiny(tmp_path / "model", [])
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    given = {"long": wave(1, 3.5), "short": wave(2, 0.5)}
    soundfile.write(sounds / "long.flac", given["long"], RATE, subtype="PCM_24")
    soundfile.write(sounds / "short.wav", given["short"], RATE, subtype="FLOAT")
    encoder = Audio(checkpoint=str(tmp_path / "model"), sounds=str(sounds)).eval()
    model = transformers.WhisperModel.from_pretrained(tmp_path / "model").eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    got = vectors(encoder, *given)
    for row, (waveform, states) in enumerate(zip(given.values(), (100, 25), strict=True)):  # 20 ms each, 2 s at most
        features = extractor(waveform, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            hidden = model.encoder(features).last_hidden_state[0, :states].mean(0)
        torch.testing.assert_close(got[row], torch.nn.functional.normalize(hidden, dim=0), atol=1e-4, rtol=0)
    assert (got[0] - got[1]).abs().max() > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("fusion", [False, True])
def test_clap_gives_the_projection_of_the_beginning(fusion: bool, tmp_path: Path) -> None:
    """Longer sounds are cut at the start: the extractor would cut them, or choose one to fuse, at random."""
    clap(tmp_path / "model", fusion=fusion)
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    stereo = np.stack([wave(1, 2.5), wave(3, 2.5)], axis=1)
    soundfile.write(sounds / "stereo.wav", stereo, RATE, subtype="FLOAT")
    soundfile.write(sounds / "short.flac", wave(2, 0.4), RATE, subtype="PCM_24")
    encoder = Audio(checkpoint=str(tmp_path / "model"), sounds=str(sounds)).eval()
    model = transformers.ClapAudioModelWithProjection.from_pretrained(tmp_path / "model").eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    got = vectors(encoder, "stereo", "short")
    for row, waveform in enumerate((stereo.mean(1)[:RATE], wave(2, 0.4))):
        features = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            embedded = model(input_features=features, is_longer=torch.tensor([[False]])).audio_embeds[0]
        torch.testing.assert_close(got[row], torch.nn.functional.normalize(embedded, dim=0), atol=1e-4, rtol=0)
    assert torch.equal(got, vectors(encoder, "stereo", "short"))


@torch.no_grad()
def test_clap_can_be_entered_at_each_stage(tmp_path: Path) -> None:
    clap(tmp_path / "model", fusion=True)
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", wave(number, 0.5 + number), RATE)
    encoder = Audio(checkpoint=str(tmp_path / "model"), sounds=str(tmp_path / "sounds")).eval()
    inputs = encoder.prepare([Item(str(number)) for number in range(3)])
    tower, expected = encoder.towers()["audio"], encoder(inputs)["audio"]
    states, _ = tower.observe(inputs, range(3))
    light = inputs._replace(spectrograms=None)
    for block in range(2):
        torch.testing.assert_close(tower.upper(states[block], light, block), expected, atol=1e-5, rtol=0)
    assert torch.equal(encoder(inputs)["audio"], expected)


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    Audio.write_tiny(tmp_path / "model", [])
    soundfile.write(tmp_path / "high.wav", wave(1, 1, 44100), 44100, subtype="FLOAT")
    resampled = resample_poly(wave(1, 1, 44100), 160, 441).astype(np.float32)
    soundfile.write(tmp_path / "same.wav", resampled, RATE, subtype="FLOAT")
    high, same = vectors(Audio(checkpoint=str(tmp_path / "model"), sounds=str(tmp_path)).eval(), "high", "same")
    torch.testing.assert_close(high, same, atol=1e-5, rtol=0)
    # and a tone is still that tone: its spectrum's peak lies at 350 Hz
    assert abs(np.abs(np.fft.rfft(resampled)).argmax() - 350) <= 1


def test_files_are_named_by_a_column_and_what_is_missing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Audio.write_tiny(tmp_path / "model", [])
    soundfile.write(tmp_path / "one.wav", wave(1, 0.3), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    encoder = Audio(checkpoint=str(tmp_path / "model"), sounds=str(tmp_path), file="{audio}").eval()
    items = [Item(id_, {"audio": name}) for id_, name in (("a", "one.wav"), ("b", "broken.wav"), ("c", "none.wav"))]
    assert encoder.present(encoder.prepare(items))["audio"].tolist() == [True, False, False]
    with caplog.at_level(logging.WARNING):
        encoder.learn_catalog(items)
    assert "items without a sound file: 1 (c)" in caplog.text
    with pytest.raises(ConfigError, match=r"no item has a sound file in folder .*, named by \{audio\}"):
        encoder.learn_catalog(items[2:])
    digest = encoder.item_digest(items[0])
    soundfile.write(tmp_path / "one.wav", wave(2, 0.3), RATE)
    assert encoder.item_digest(items[0]) != digest


def test_what_hears_nothing_is_refused(tmp_path: Path) -> None:
    Sentence.write_tiny(tmp_path, ["a mug"])
    with pytest.raises(ConfigError, match="is a bert; the encoder 'audio' reads Whisper, CLAP"):
        Audio(checkpoint=str(tmp_path))


def test_whisper_keeps_its_encoder_alone(tmp_path: Path) -> None:
    Audio.write_tiny(tmp_path / "model", [])
    encoder: Any = Audio(checkpoint=str(tmp_path / "model"))
    assert not any("decoder" in name or "classifier" in name for name, _ in encoder.named_parameters())
    encoder.save_pretrained(tmp_path / "again")
    assert Audio.from_pretrained(tmp_path / "again").fingerprint() == encoder.fingerprint()
