"""The objective of fine-tuning: chunks, precision, noise, processes, other spaces and matching."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs
from lmm4rec.distributed import process_group
from lmm4rec.encoding import runner as runner_module
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.encoding.shared_space import shared_spaces
from lmm4rec.encoding.sizing import ResolvedPrecision
from lmm4rec.nn.losses import contrastive, matching
from lmm4rec.training import contrastive as contrastive_module
from lmm4rec.training.augmentation import Augmentation
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.finetuning import fit_pairs, loss_weights
from toys import LARGEST, Toy, toy_items

ITEMS = toy_items(24)
ROWS = torch.arange(24)


def objective(
    encoder: Toy, *, augmentation: Augmentation | None = None, precision: ResolvedPrecision = "float32", chunk: int = 0
) -> Contrastive:
    pairs = PreparedItems(encoder, ITEMS, memory_mb=64)
    made = Contrastive(
        encoder,
        pairs,
        EncoderRunner(encoder, precision=precision, chunk=chunk),
        augmentation,
        weights={"contrastive": 1.0},
    )
    made.begin_epoch(torch.Generator().manual_seed(7))
    return made.train()


def step(made: Contrastive, *, checkpointing: bool = False) -> tuple[float, dict[str, Tensor]]:
    """The loss of all pairs and its gradient."""
    weights = dict(made.encoder.named_parameters())
    with made.runner.checkpointed(enabled=checkpointing):
        loss = sum(made.losses(ROWS, torch.Generator()).values(), torch.zeros(()))
        grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    found = zip(weights, grads, strict=True)
    return float(loss.detach()), {name: grad for name, grad in found if grad is not None}


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, grad in one.items():
        torch.testing.assert_close(grad, other[name], rtol=1e-3, atol=2e-6, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.long
@pytest.mark.parametrize("chunk", [1, 5, 8, 23])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk: int) -> None:
    augmentation = Augmentation(crop=0.3, flip=True, mask=0.2)  # drawn for the whole batch, whatever the chunk
    loss, grads = step(objective(Toy(), augmentation=augmentation))
    chunked_loss, chunked = step(objective(Toy(), augmentation=augmentation, chunk=chunk))
    assert chunked_loss == pytest.approx(loss, rel=1e-5)
    assert_same(grads, chunked)


@pytest.mark.long
def test_a_chunk_is_computed_again_with_the_noise_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same chunks whose activations are all kept, with dropout and stochastic depth."""
    again, again_grads = step(objective(Toy(dropout=0.3, drop_path=0.5), chunk=5))
    monkeypatch.setattr(runner_module, "checkpoint", lambda function, *values, **_: function(*values))
    kept, kept_grads = step(objective(Toy(dropout=0.3, drop_path=0.5), chunk=5))
    assert again == kept
    assert_same(again_grads, kept_grads)
    quiet, _ = step(objective(Toy(), chunk=5))
    assert abs(quiet - kept) > 0.05


def test_more_rows_than_a_chunk_keep_the_activations_of_one_and_what_all_take_and_give() -> None:
    def kept(chunk: int) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        made = objective(Toy(layers=6), chunk=chunk)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            made.losses(ROWS, torch.Generator())
        return sum(sizes.values())

    assert kept(4) < (4 / len(ROWS) + 0.1) * kept(0)


def test_checkpointing_gives_the_same_gradient_and_leaves_the_encoder_as_it_was() -> None:
    encoder = Toy(drop_path=0.5)
    loss, grads = step(objective(encoder))
    again, again_grads = step(objective(encoder), checkpointing=True)
    assert again == loss
    assert_same(grads, again_grads)
    assert encoder.model.blocks.generator is None
    assert not encoder.model.blocks.checkpointing


def test_an_encoder_without_blocks_cannot_be_checkpointed() -> None:
    encoder = Toy()
    runner = EncoderRunner(encoder, precision="float32")
    encoder.model = nn.Identity()  # type: ignore[assignment]
    with pytest.raises(TrainingError, match="Toy cannot be checkpointed; set checkpointing = false"):
        runner.checkpointed(enabled=True).__enter__()


def test_bfloat16_stays_near_float32() -> None:
    """The loss within 1%, the gradient within 5% of its length: losses and similarities are in float32."""
    loss, grads = step(objective(Toy(layers=4)))
    low, low_grads = step(objective(Toy(layers=4), precision="bfloat16"))
    assert low == pytest.approx(loss, rel=0.01)
    assert low != loss
    whole, near = (torch.cat([grad.flatten() for grad in some.values()]) for some in (grads, low_grads))
    assert float((whole - near).norm() / whole.norm()) < 0.05
    assert all(grad.dtype is torch.float32 for grad in low_grads.values())


def test_noise_follows_from_the_seed_and_takes_nothing_from_the_global_generator() -> None:
    def loss(epoch_seed: int) -> float:
        made = objective(Toy(dropout=0.3, drop_path=0.5), augmentation=Augmentation(0.3, True, 0.3))
        generator = torch.Generator().manual_seed(epoch_seed)
        made.begin_epoch(generator)
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(epoch_seed).get_state())
        return step(made)[0]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = loss(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert loss(1) == first
    assert loss(2) != first


def test_two_steps_of_an_epoch_have_different_noise() -> None:
    made = objective(Toy(dropout=0.3))
    assert step(made)[0] != step(made)[0]


def test_a_scale_beyond_its_bound_is_put_there_and_still_learns() -> None:
    encoder = Toy()
    with torch.no_grad():
        encoder.logit_scale.fill_(LARGEST + 1)
    _, grads = step(objective(encoder))
    assert encoder.logit_scale.item() == pytest.approx(LARGEST)
    assert float(shared_spaces(encoder)[0].scale().detach()) == pytest.approx(100, rel=1e-5)
    assert grads["model.logit_scale"] != 0


# several processes

OPTIONS: dict[str, Any] = {
    "epochs": 3, "batch_size": 15, "learning_rate": 1e-2, "crop": 0.3, "flip": True, "mask": 0.2, "chunk": 4,
    "precision": "float32", "device": "cpu", "valid": 0.2,
}  # fmt: skip
OTHER = """
import json, sys
import torch
torch.set_num_threads(1)
from toys import Toy, toy_items
from lmm4rec.distributed import process_group
from lmm4rec.training.finetuning import fit_pairs
with process_group.initialized():
    fit_pairs(Toy(), toy_items(41), None, **json.loads(sys.argv[1]))
"""


def total(encoder: Toy) -> float:
    return sum(float(weight.detach().double().abs().sum()) for weight in encoder.parameters())


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of 8 and 7, and of 2 and 1: vectors are gathered with their gradient."""
    encoder = Toy()
    one = fit_pairs(encoder, toy_items(41), None, **OPTIONS)
    assert one.rows[-1]["loss"] < one.rows[0]["loss"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
        monkeypatch.setenv(name, value)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, json.dumps(OPTIONS)], env={**os.environ, "RANK": "1", "PYTHONPATH": path}
    )
    shared = Toy()
    with process_group.initialized():
        assert process_group.world_size() == 2
        two = fit_pairs(shared, toy_items(41), None, **OPTIONS)
    assert other.wait(30) == 0
    assert process_group.world_size() == 1
    for mine, theirs in zip(one.rows, two.rows, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    assert total(shared) == pytest.approx(total(encoder), rel=1e-4)
    assert total(shared) != pytest.approx(total(Toy()), rel=1e-3)


def test_a_batch_of_fewer_pairs_than_processes_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a pair would have nothing to encode."""
    expected, gradient = step(objective(Toy()))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: len(ITEMS) + 1)
    monkeypatch.setattr(dist, "get_rank", lambda: len(ITEMS))
    losses, gradients = step(objective(Toy()))
    assert losses == expected
    torch.testing.assert_close(gradients, gradient)


# other spaces, and matching


class Spaces(Toy):
    """A second space, the first turned round; and a head that looks at image and words apart."""

    spaces = ("own", "turned")
    matches = True

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Parameter(torch.tensor(1.0))
        self.seen: list[Inputs] = []

    def aligned(self, inputs: Inputs, space: str) -> tuple[Tensor, Tensor]:
        out = self(inputs)
        return (out["image"], out["text"]) if space == "own" else (out["image"].flip(1), -out["text"])

    def log_scale(self, space: str) -> Tensor:
        return self.logit_scale if space == "own" else self.second

    def match(self, inputs: Inputs) -> Tensor:
        self.seen.append(inputs)
        out = self(inputs)
        return torch.stack([out["image"][:, 0], out["text"][:, 0]], dim=1)


def test_each_space_has_its_loss_and_its_scale() -> None:
    encoder = Spaces()
    pairs = PreparedItems(encoder, ITEMS, memory_mb=64)
    weights = loss_weights(encoder, vl_weight=0.5, matching_weight=2.0)
    assert weights == {"own": 1.0, "turned": 0.5, "matching": 2.0}
    made = Contrastive(
        encoder,
        pairs,
        EncoderRunner(encoder, precision="float32"),
        weights={"own": 1.0, "turned": 0.5},
        matching_weight=2.0,
    )
    made.begin_epoch(torch.Generator())
    terms = made.eval().losses(ROWS, torch.Generator())
    out = encoder(pairs.of(ROWS))
    image, text = out["image"], out["text"]
    torch.testing.assert_close(terms["contrastive"], contrastive(image, text, encoder.logit_scale.exp()))
    turned = 0.5 * contrastive(image.flip(1), -text, torch.tensor(1.0).exp())
    torch.testing.assert_close(terms["contrastive_turned"], turned)
    assert set(terms) == {"contrastive", "contrastive_turned", "matching"}


def test_matching_sees_each_pair_and_two_hard_negatives() -> None:
    encoder = Spaces()
    pairs = PreparedItems(encoder, ITEMS, memory_mb=64)
    made = Contrastive(
        encoder, pairs, EncoderRunner(encoder, precision="float32"), weights={"own": 1.0}, matching_weight=1.0
    )
    made.begin_epoch(torch.Generator())
    term = made.eval().losses(ROWS, torch.Generator())["matching"]
    real, images, words = encoder.seen
    assert real.pixels is not None
    assert real.text_ids is not None
    whole = pairs.of(ROWS)
    assert torch.equal(real.pixels, whole.pixels)
    assert torch.equal(images.text_ids, real.text_ids)
    assert torch.equal(words.pixels, real.pixels)
    assert not (images.pixels == real.pixels).flatten(1).all(1).any()
    logits = [encoder.match(one) for one in (real, images, words)]
    targets = torch.tensor([1] * 24 + [0] * 48)
    torch.testing.assert_close(term, F.cross_entropy(torch.cat(logits), targets))


def test_the_matching_loss_by_hand() -> None:
    """One pair told right with odds of 3 to 1, one look-alike taken for a pair with the same odds."""
    odds = torch.tensor([[1.0, 3.0]]).log()
    assert float(matching(odds, odds)) == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_hard_negatives_are_drawn_by_similarity_and_are_never_the_item_itself() -> None:
    """Softmax over the others: scores log 1, log 3 beside the row's own."""
    scores = torch.tensor([[9.0, 1.0, 3.0], [1.0, 99.0, 3.0], [3.0, 1.0, 50.0]]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([contrastive_module._hard_negatives(scores, generator) for _ in range(4000)])
    assert not (drawn == torch.arange(3)).any()
    shares = [float((drawn[:, row] == column).float().mean()) for row, column in ((0, 2), (1, 2), (2, 0))]
    assert shares == pytest.approx([0.75] * 3, abs=0.03)
    lost = contrastive_module._hard_negatives(torch.full((3, 3), torch.nan), generator)
    assert not (lost == torch.arange(3)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vl_weight": 1.0}, "vl_weight = 1.0, but Toy has no second shared space"),
        ({"matching_weight": 0.5}, "matching_weight = 0.5, but this Toy has no head"),
    ],
)
def test_a_loss_that_the_encoder_has_no_head_for_is_refused(options: dict[str, Any], message: str) -> None:
    assert loss_weights(Toy()) == {"contrastive": 1.0}
    with pytest.raises(TrainingError, match=message):
        loss_weights(Toy(), **options)
