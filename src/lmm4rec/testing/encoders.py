"""The contracts of encoders: checks that every one of them has to pass."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Item
from lmm4rec.encoders.base import Encoder, is_encoder
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.features.extract import extract
from lmm4rec.features.item_vectors import EncodedItems
from lmm4rec.features.store import FeatureStore
from lmm4rec.testing.contracts import Contracts, expect
from lmm4rec.testing.items import INCOMPLETE, ITEMS, TEXTS, WITHOUT_TEXT, NoiseImage, catalog_of
from lmm4rec.testing.one_sided_encoders import AudioSide, ImageSide, TextSide
from lmm4rec.testing.sounds import write_sounds


@dataclass(frozen=True)
class Candidate:
    """An encoder class, or a function that builds one, and a folder for its files."""

    source: type[Encoder] | Callable[[], Encoder]
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> type[Encoder] | None:
        """The class, where the source is one."""
        return self.source if isinstance(self.source, type) and issubclass(self.source, Encoder) else None

    @property
    def component(self) -> type[Encoder]:
        """The class."""
        return self.kind or type(self.encoder)

    @property
    def keys(self) -> dict[str, inspect.Parameter]:
        """The class's hyper-parameters; empty where only a function is known."""
        return hyper_parameters(self.kind) if self.kind else {}

    @property
    def has_tiny(self) -> bool:
        """Whether the class can write a small checkpoint."""
        return self.kind is not None and self.kind.has_tiny()

    @property
    def has_weights(self) -> bool:
        """Whether it can be trained, told by the class where there is one: nothing is built then."""
        return (self.kind or self.encoder).has_weights

    @property
    def reads_text(self) -> bool:
        """Whether it has a text template, told by the class where there is one."""
        return "text" in self.keys or bool((self.kind or self.encoder).text)

    @cached_property
    def encoder(self) -> Encoder:
        """An instance in evaluation mode, for checks that do not change it."""
        return self.build()

    def build(self, **options: Any) -> Encoder:
        """A new instance in evaluation mode."""
        if self.kind is None:
            return self.source().eval()
        sides: dict[str, Callable[[], Encoder]] = {"image": ImageSide, "text": TextSide, "audio": AudioSide}
        inner: dict[str, Any] = {
            key: sides[key]() for key, one in self.keys.items() if is_encoder(one.annotation) and key in sides
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        if "sounds" in self.keys:
            inner["sounds"] = str(self._sounds(self.kind))
        return self.kind.tiny(self.folder, ITEMS, **inner, **self.options, **options).eval()

    def _sounds(self, kind: type[Encoder]) -> Path:
        """The folder of the items' sound files, inside that of the checkpoint, which is written first."""
        folder = self.folder / "sounds"
        if not folder.exists():
            if not any(self.folder.iterdir()):
                kind.write_tiny(self.folder, TEXTS)
            write_sounds(folder)
        return folder


CONTRACTS: Contracts[Candidate] = Contracts()


def check_encoder(
    encoder: type[Encoder] | Callable[[], Encoder], /, *, contract: str | None = None, **options: Any
) -> None:
    """Check that an encoder keeps the promises of its kind, or the one that `contract` names.

    A class is built by its `tiny`, with `options`; a function without arguments returns a new encoder at each call.

    Raises:
        BrokenContractError: it says which promise is broken, and how.
    """
    with TemporaryDirectory() as folder:
        candidate = Candidate(encoder, Path(folder), options)
        CONTRACTS.check(candidate, candidate.component.__name__, contract)


def encoder_contracts(encoder: type[Encoder] | Callable[[], Encoder], /, **options: Any) -> list[str]:
    """The names of the contracts that an encoder has to keep."""
    with TemporaryDirectory() as folder:
        return CONTRACTS.names(Candidate(encoder, Path(folder), options))


def vectors(encoder: Encoder, items: Sequence[Item]) -> dict[str, Float[Tensor, "items _dim"]]:
    """The vectors of items by the encoder's own forward pass."""
    with torch.inference_mode():
        return encoder(encoder.prepare(items))


@CONTRACTS.add()
def gives_vectors_of_length_1_and_of_the_stated_widths(candidate: Candidate) -> None:
    """Each modality of `dims` comes out in its width, one row an item, scaled to length 1."""
    out = vectors(candidate.encoder, ITEMS)
    shapes = {modality: tuple(x.shape) for modality, x in out.items()}
    stated = {modality: (len(ITEMS), dim) for modality, dim in candidate.encoder.dims.items()}
    expect(shapes == stated, f"the vectors are {shapes}, `dims` says {stated}")
    for x in out.values():
        torch.testing.assert_close(x.norm(dim=1), torch.ones(len(ITEMS)), atol=1e-4, rtol=0)


@CONTRACTS.add()
def encodes_each_item_for_itself(candidate: Candidate) -> None:
    """Neither the order nor the other items of a batch change an item's vector, and two items have two vectors."""
    together, alone = vectors(candidate.encoder, ITEMS), vectors(candidate.encoder, [ITEMS[3], ITEMS[1]])
    for modality, x in alone.items():
        torch.testing.assert_close(x, together[modality][[3, 1]], atol=1e-5, rtol=1e-4)
        expect(not torch.allclose(x[0], x[1], atol=1e-4), f"two items have the same {modality} vector")


@CONTRACTS.add()
def encoders_by_modality_give_the_same_vectors(candidate: Candidate) -> None:
    """`by_modality` gives the same vectors and masks; an item's digest changes with what is read of it alone."""
    encoder, items = candidate.encoder, [*ITEMS, *INCOMPLETE]
    expected, present = vectors(encoder, items), encoder.present(encoder.prepare(items))
    parts = encoder.by_modality()
    names = [modality for part in parts for modality in part.dims]
    expect(names == list(encoder.dims), f"the parts give {names}, the encoder gives {list(encoder.dims)}")
    for part in parts:
        got, has = vectors(part, items), part.present(part.prepare(items))
        for modality in part.dims:
            torch.testing.assert_close(got[modality], expected[modality], atol=1e-5, rtol=1e-4)
            expect(torch.equal(has[modality], present[modality]), f"the mask of {modality} differs")
        _check_digests(part)
    prints = {part.fingerprint() + "".join(part.dims) for part in parts}
    expect(len(prints) == len(parts), "two parts have the same fingerprint")


def _check_digests(encoder: Encoder) -> None:
    first = ITEMS[0]
    changed = {"image": Item("0", first.fields, NoiseImage(9)), "text": Item("0", WITHOUT_TEXT.fields, first.image)}
    for modality, item in changed.items():
        differs = encoder.item_digest(item) != encoder.item_digest(first)
        expect(
            differs == encoder.uses(modality),
            f"another {modality} changes the digest: {differs}; it is read: {encoder.uses(modality)}",
        )
    other_id = first.id if encoder.uses("audio") else "another id"  # which finds a sound file
    priced = Item(other_id, {**first.fields, "price": "3"}, first.image)
    expect(encoder.item_digest(priced) == encoder.item_digest(first), "the digest changes with what is not read")


@CONTRACTS.add()
def extraction_gives_its_vectors(candidate: Candidate) -> None:
    """The feature store gets the encoder's vectors, in float32 and in bfloat16."""
    # bfloat16 has 8 bits, and rounds some hundred times on the way
    tolerances: dict[ResolvedPrecision, float] = {"float32": 1e-4, "bfloat16": 0.05}
    for precision, tolerance in tolerances.items():
        with TemporaryDirectory() as folder:
            store = FeatureStore(Path(folder))
            extracted = extract(candidate.encoder, catalog_of(ITEMS), store=store, precision=precision)
            for modality, x in vectors(candidate.encoder, ITEMS).items():
                torch.testing.assert_close(extracted.features[modality], x.float(), atol=tolerance, rtol=0)


@CONTRACTS.add()
def masks_what_an_item_lacks(candidate: Candidate) -> None:
    """Missing and unreadable images and missing texts are masked, never dropped, and change no other item."""
    encoder, items = candidate.encoder, [ITEMS[0], *INCOMPLETE]
    present = {modality: rows.tolist() for modality, rows in encoder.present(encoder.prepare(items)).items()}
    has = {"image": [True, False, False, True], "text": [True, True, True, False]}
    has["fused"] = [image and text for image, text in zip(has["image"], has["text"], strict=True)]
    has["audio"] = has["image"]  # the sound files of `write_sounds`
    expected = {modality: has[modality] for modality in encoder.dims}
    expect(present == expected, f"`present` says {present}, expected {expected}")
    for modality, x in vectors(encoder, items).items():
        expect(torch.isfinite(x).all(), f"there are {modality} vectors that are not finite")
        torch.testing.assert_close(x[0], vectors(encoder, ITEMS[:1])[modality][0], atol=1e-5, rtol=1e-4)


@CONTRACTS.add()
def prepares_without_its_weights(candidate: Candidate) -> None:
    """`prepare` reads no weights: on a cluster with GPUs, machines that hold none prepare the items."""
    expected = candidate.encoder.prepare(ITEMS)
    for name, values in candidate.build().to("meta").prepare(ITEMS)._asdict().items():
        given = getattr(expected, name)
        same = values is given if given is None else torch.equal(values, given)
        expect(same, f"`{name}` of the inputs is another without the weights")


@CONTRACTS.add()
def the_fingerprint_tells_encoders_apart(candidate: Candidate) -> None:
    """It is the same for the same encoder built twice, and another for other weights."""
    first, second = candidate.build(), candidate.build()
    expect(first.fingerprint() == second.fingerprint(), "the same encoder built twice has two fingerprints")
    for weight in list(second.parameters())[:1]:
        with torch.no_grad():
            weight.view(-1)[0] += 1e-3
        expect(first.fingerprint() != second.fingerprint(), "other weights have the same fingerprint")


@CONTRACTS.add(lambda candidate: candidate.reads_text)
def refuses_a_template_with_an_unknown_field(candidate: Candidate) -> None:
    """Where the template names a field that the catalog does not have, `prepare` raises ConfigError with both."""
    try:
        candidate.encoder.prepare([Item("1", {"name": "x"})])
    except ConfigError as error:
        expect("'title'" in str(error) and "name" in str(error), f"the message does not name the fields: {error}")
    else:
        raise AssertionError("an item without the field is prepared without an error")


@CONTRACTS.add(lambda candidate: candidate.has_weights)
def in_training_it_gives_the_stored_vectors_and_takes_gradient(candidate: Candidate) -> None:
    """With inputs in memory or on disk; what items lack sends no gradient and no NaN."""
    encoder, items = candidate.build(), [*ITEMS, *INCOMPLETE]
    with TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        stored = extract(encoder, catalog_of(items), store=store, precision="float32", batch_size=16, workers=0)
    rows = torch.tensor([0, 5, 6, 7, 3])
    for memory_mb in (64, 0):
        encoded = EncodedItems(encoder, items, inputs_mb=memory_mb)
        out = encoded(rows)
        for modality, expected in stored.features.items():
            torch.testing.assert_close(out[modality].detach(), expected[rows], rtol=1e-4, atol=2e-5)
    encoder.zero_grad()
    torch.stack([x.square().sum(1).cos().sum() + x.sum() for x in out.values()]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
    expect(all(gradient.isfinite().all() for gradient in gradients), "there are gradients that are not finite")
    expect(any(gradient.abs().sum() > 0 for gradient in gradients), "no gradient reaches the weights")


@CONTRACTS.add(lambda candidate: not candidate.has_weights)
def without_weights_it_cannot_be_trained(candidate: Candidate) -> None:
    """An encoder that declares has_weights = False has none, and end-to-end training is refused."""
    expect(not any(weight.requires_grad for weight in candidate.encoder.parameters()), "it has weights to train")
    try:
        EncodedItems(candidate.encoder, ITEMS)
    except ConfigError as error:
        expect("has no weights to train" in str(error), f"the message says something else: {error}")
    else:
        raise AssertionError("it is taken for training")


@CONTRACTS.add(lambda candidate: "checkpoint" in candidate.keys)
def a_missing_checkpoint_says_what_is_expected(candidate: Candidate) -> None:
    """A path without a checkpoint raises ConfigError that names it and what to give instead."""
    path = str(candidate.folder / os.pardir / "not there")
    try:
        candidate.component(checkpoint=path)
    except ConfigError as error:
        expect(path in str(error) and "give a" in str(error), f"the message does not say so: {error}")
    else:
        raise AssertionError("it is built from nothing")


@CONTRACTS.add(lambda candidate: hasattr(candidate.component, "save_pretrained"))
def survives_saving_and_loading(candidate: Candidate) -> None:
    """`from_pretrained` reads what `save_pretrained` writes: the same vectors, the same fingerprint."""
    encoder: Any = candidate.encoder
    with TemporaryDirectory() as folder:
        encoder.save_pretrained(Path(folder) / "saved")
        again = type(encoder).from_pretrained(Path(folder) / "saved").eval()
        expect(again.fingerprint() == encoder.fingerprint(), "the loaded encoder has another fingerprint")
        for modality, x in vectors(encoder, ITEMS).items():
            expect(torch.equal(vectors(again, ITEMS)[modality], x), f"the loaded encoder has other {modality} vectors")


@CONTRACTS.add(lambda candidate: "outputs" in candidate.keys)
def fewer_outputs_are_the_same_vectors(candidate: Candidate) -> None:
    """Each choice of `outputs` gives what it names, and what is left out changes nothing."""
    whole = vectors(candidate.encoder, ITEMS)
    for outputs in get_args(candidate.keys["outputs"].annotation):
        encoder = candidate.build(outputs=outputs)
        out = vectors(encoder, ITEMS)
        expect(tuple(out) == encoder.modalities == tuple(outputs.split("+")), f"'{outputs}' gives {', '.join(out)}")
        for modality in out.keys() & whole.keys():
            torch.testing.assert_close(out[modality], whole[modality], atol=1e-6, rtol=0)


@CONTRACTS.add(lambda candidate: candidate.has_tiny)
def a_tiny_one_repeats_under_a_seed(candidate: Candidate) -> None:
    """`write_tiny` writes the same weights for the same seed and others for another, and a vocabulary of the texts."""
    prints = []
    for seed in (0, 0, 1):
        with TemporaryDirectory() as folder:
            candidate.component.write_tiny(folder, [*TEXTS] * 3, seed=seed)
            encoder = candidate.component(checkpoint=folder)
            prints.append(encoder.fingerprint())
            ids = encoder.prepare(ITEMS).text_ids
    expect(prints[0] == prints[1], "the same seed gives two fingerprints")
    expect(prints[0] != prints[2], "two seeds give the same fingerprint")
    distinct = set() if ids is None else {tuple(row) for row in ids.tolist()}
    expect(ids is None or len(distinct) == len(ITEMS), "two texts have the same tokens")
