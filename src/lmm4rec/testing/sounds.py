"""Sound files of the items of the contract tests, for encoders of audio."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from lmm4rec.testing.items import ITEMS, UNREADABLE_IMAGE, WITHOUT_TEXT

_RATE = 8000


def write_sounds(folder: Path) -> None:
    """A second of noise for each complete item and the one without text; none for the one without an image.

    The file of the item with an unreadable image cannot be read either.
    """
    folder.mkdir(exist_ok=True)
    for number, item in enumerate([*ITEMS, WITHOUT_TEXT]):
        write_sound(folder / f"{item.id}.wav", number)
    (folder / f"{UNREADABLE_IMAGE.id}.wav").write_bytes(b"RIFF and no more")


def write_sound(path: Path, seed: int, *, samples: int = _RATE) -> None:
    """A tone whose pitch follows from the seed, with noise drawn from it, at 8,000 samples a second."""
    noise = np.random.default_rng(seed).normal(size=samples)
    pitch = np.sin(np.arange(samples) * (0.1 + 0.2 * seed))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((3000 * (pitch + 0.3 * noise)).astype("<i2").tobytes())
