"""Passes of live features: in what order items go through the encoder, and what is kept for the backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from live_worlds import TinyVectors, batches, generator, gradients, live, total, world
from torch import Tensor, nn

import lmm4rec.encoding.runner as runner_module
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.distributed import process_group
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.training.objective import RankingObjective


class Texts(TinyVectors):
    """The same, of texts that have 1 to 30 tokens, no two of one length; the lengths in each pass are on record."""

    def __init__(self) -> None:
        super().__init__()
        self.text_lengths = 1 + torch.randperm(30, generator=generator(8))
        self.lengths: list[list[int]] = []

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        lengths = self.text_lengths[items]
        self.lengths.append(lengths.tolist())
        vectors = super().forward(items)
        padded = torch.tanh(vectors["text"][:, None].expand(-1, int(lengths.max()), -1))  # kept to the longest
        return vectors | {"text": padded[:, 0]}


def step(vectors: TinyVectors, chunk: int) -> dict[str, Tensor]:
    """The gradients of a step of VBPR."""
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    source = live(vectors)
    source._sized_runner().chunk = chunk
    source.begin_epoch(1)
    objective = RankingObjective(recommender, source, batches=1).train()
    total(objective.losses(next(batches(graph)), generator())).backward()
    return gradients(vectors)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_taken_in_turn_the_gradient_is_the_same(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are computed anew in the backward pass draw the same dropout as those that are kept."""
    results = []
    for kept in (True, False):
        vectors = TinyVectors(dropout=dropout)
        if kept:
            monkeypatch.setattr(runner_module, "checkpoint", lambda function, *values, **_: function(*values))
        results.append(step(vectors, chunk=4))
        monkeypatch.undo()
        # two of the world, one that measures; the last four of the 30 items are kept
        assert len(vectors.passes) - 3 == (8 if kept else 15)
    torch.testing.assert_close(*results)


def test_what_a_pass_keeps_sets_how_many_items_it_takes() -> None:
    """tanh keeps its result, the product its inputs: 2 (8 + 11) floats an item."""
    source = live(TinyVectors(), memory_mb=1)
    assert source._sized_runner().chunk == pytest.approx(2**20 / (4 * 2 * 19), rel=0.5)


def test_what_is_kept_is_freed_before_anything_is_computed_again() -> None:
    """Else the memory of both would be taken at once."""
    events: list[tuple[str, list[int]]] = []

    class Noting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, rows: Tensor) -> Tensor:
            ctx.save_for_backward(rows)
            events.append(("forward", rows.int().tolist()))
            return rows * 2

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (rows,) = ctx.saved_tensors
            events.append(("backward", rows.int().tolist()))
            return gradients[0]

    runner = EncoderRunner(nn.Linear(1, 1), precision="float32", chunk=2)
    (result,) = runner(lambda rows: (Noting.apply(rows),), torch.arange(5.0, requires_grad=True))  # type: ignore[no-untyped-call]
    assert events == [("forward", [0, 1]), ("forward", [2]), ("forward", [3, 4])]
    assert runner.passes(5) == 3
    result.sum().backward()
    assert events[3:] == [
        ("backward", [3, 4]), ("forward", [2]), ("backward", [2]), ("forward", [0, 1]), ("backward", [0, 1])
    ]  # fmt: skip


def test_without_gradient_nothing_is_computed_in_turn_for_the_memory_of_a_backward_pass() -> None:
    runner = EncoderRunner(nn.Linear(1, 1), precision="float32", chunk=2)
    with torch.no_grad():
        assert runner.passes(5) == 1


def test_no_rows_give_vectors_of_none() -> None:
    runner = EncoderRunner(nn.Linear(3, 2), precision="float32", chunk=2, pass_rows=4)
    (result,) = runner(lambda rows: (runner.module(rows),), torch.zeros(0, 3))
    assert result.shape == (0, 2)


def test_texts_of_a_pass_are_of_about_one_length() -> None:
    """Each is padded to the longest of its pass; vectors and gradients are those of any other order."""
    texts, others = Texts(), Texts()
    ours = step(texts, chunk=4)
    lengths = [length for one in texts.lengths[-15:-7] for length in one]
    assert lengths == sorted(lengths) == list(range(1, 31))
    order, others.text_lengths = others.text_lengths, torch.ones(30, dtype=torch.int64)
    torch.testing.assert_close(step(others, chunk=4), ours)
    assert not torch.equal(order, order.sort().values)


def test_each_process_has_short_and_long_texts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = Texts()
    source = live(vectors)
    vectors.text_lengths = torch.tensor([50, 10, 40, 20, 30, 60, 70])
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        rows = source._by_length(torch.arange(7))
        shares.append(vectors.text_lengths[process_group.local_rows(rows)].tolist())
    assert shares == [[10, 30, 50, 70], [20, 40, 60]]


def test_the_longest_texts_say_how_many_items_fit_the_memory() -> None:
    """Padded to 30 tokens, a pass keeps 30 times 11 numbers of an item's text beside 2 (8 + 11)."""
    source = live(Texts(), memory_mb=1)
    assert source._sized_runner().chunk == pytest.approx(2**20 / (4 * (30 * 11 + 2 * 19)), rel=0.05)


def test_fewer_items_than_processes_are_encoded_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without an item would have nothing to encode; the vectors and the noise are those of one process."""
    expected = vectors_of_two_items()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 31)
    monkeypatch.setattr(dist, "get_rank", lambda: 30)
    torch.testing.assert_close(vectors_of_two_items(), expected)


def vectors_of_two_items() -> dict[str, Tensor]:
    """Their vectors in a step, and those of all items in a refresh after it."""
    source = live(TinyVectors(dropout=0.4)).train()
    source.begin_epoch(1)
    found = {f"{name} of a step": rows[[3, 5]] for name, rows in source(torch.tensor([3, 5]), generator()).items()}
    source.refresh()
    return found | {name: rows.clone() for name, rows in source().items()}
