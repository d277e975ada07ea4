"""A small shop's bundle on disk, whole: vectors in parts, images, words, an encoder for new items."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from PIL import Image

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.types import Embeddings
from lmm4rec.data.sources import toyshop
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoders.words import Words
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.encoder_record import EncoderRecord
from lmm4rec.serving.thumbnails import catalog_thumbnails

HERE = ("testserver",)  # the name under which a test client calls
USERS, ITEMS, DIM = 30, 40, 12
_WORDS = {"dim": 16, "buckets": 1024}


def write_shop(
    folder: Path,
    *,
    seed: int = 0,
    content: bool = True,
    title: str = "A shop",
    facts: Mapping[str, object] | None = None,
) -> Path:
    """A run folder with a bundle of drawn vectors; without `content` it can neither search nor take items."""
    dataset = toyshop.load(users=USERS, items=ITEMS, interactions=300)
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(count, DIM, generator=generator) for count in (USERS, ITEMS))
    parts = {"id": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
    facts = dict(facts or {}) | {"title": title, "model": "VBPR", "encoder": "color+words", "data": {"name": "toyshop"}}
    more = {}
    if content:
        encoder = Paired(image=Color(), text=Words(**_WORDS))
        encoder.learn_catalog(dataset.catalog)
        sides = {"image": EncoderRecord("color", {}), "text": EncoderRecord("words", _WORDS)}
        features = encoder(encoder.prepare(list(dataset.catalog)))
        content = ContentSpace.of(features)
        weights = torch.linalg.lstsq(content(features), items, driver="gelsd").solution  # a shape that fits, no more
        more = {
            "thumbnails": catalog_thumbnails(dataset.catalog, range(ITEMS)),
            "features": features,
            "content_to_vectors": ContentToVectors(
                content, free=torch.arange(DIM), weights=weights, offset=torch.zeros(DIM)
            ),
            "encoder": EncoderRecord("paired", sides),
        }
    Bundle.of(Embeddings(users, items, parts=parts), dataset, facts, **more).save_pretrained(folder / "bundle")
    return folder


def png(color: str = "red", size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    """An image of one color as a file's bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def add(client: TestClient, id_: str = "mug-7", **more: object) -> object:
    fields = json.dumps({"title": "A red mug", "description": "Stoneware."})
    return client.post("/items", data={"id": id_, "fields": fields}, files={"image": ("x.png", png())}, **more)  # type: ignore[arg-type]


def post(client: TestClient, *interactions: dict[str, Any]) -> Any:
    return client.post("/interactions", json={"interactions": list(interactions)})


def best(client: TestClient, user: str, k: int = 10) -> list[str]:
    return [one["id"] for one in client.get(f"/recommend/{user}", params={"k": k}).raise_for_status().json()["items"]]


def loaded_bundles(client: TestClient) -> dict[str, Any]:
    """The answer of `/bundles` when the encoders are loaded."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        answer: dict[str, Any] = client.get("/bundles").json()
        if not any(one["loading"] for one in answer["bundles"]):
            return answer
        time.sleep(0.01)
    raise AssertionError("the encoders are not loaded")
