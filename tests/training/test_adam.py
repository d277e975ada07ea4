"""Adam beside PyTorch's: whole parameters bit for bit, tables with deferred rows up to rounding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmm4rec.core.errors import TrainingError
from lmm4rec.nn.tables import Table
from lmm4rec.training.optim import compiled_rows
from lmm4rec.training.optim.adam import Adam

ROWS, DIM = 400, 3


def table(seed: int = 0) -> Table:
    return Table(torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(seed)))


def options(*weights: nn.Parameter, **changed: float) -> list[dict[str, Any]]:
    return [{"params": list(weights), "lr": 0.01, "weight_decay": 0.0} | changed]


def draw(generator: torch.Generator, scale: float) -> tuple[Tensor, Tensor]:
    """Rows that a batch reads, some of them twice, and a gradient for each."""
    read = torch.randint(ROWS, (8,), generator=generator)
    return torch.cat([read, read[:2]]), scale * torch.randn(10, DIM, generator=generator)


def step_rows(adam: Adam, weight: Table, read: Tensor, gradient: Tensor) -> None:
    adam.zero_grad()
    (weight.rows(read) * gradient).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.is_sparse
    adam.step()


def step_whole(optimizer: Any, weight: nn.Parameter, read: Tensor, gradient: Tensor) -> None:
    optimizer.zero_grad()
    (weight[read] * gradient).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_whole_parameters_are_stepped_as_by_pytorch(kind: type[torch.optim.Adam], decay: float) -> None:
    ours, theirs, generator = table(), table(), torch.Generator().manual_seed(1)
    own = Adam(options(ours, weight_decay=decay), decoupled=kind is torch.optim.AdamW)
    peer = kind(options(theirs, weight_decay=decay), fused=True)
    for number in range(20):
        own.param_groups[0]["lr"] = peer.param_groups[0]["lr"] = 0.01 / (1 + number)
        read, gradient = draw(generator, 1.0)
        step_whole(own, ours, read, gradient)
        step_whole(peer, theirs, read, gradient)
    assert torch.equal(ours, theirs)


@pytest.mark.long
@pytest.mark.usefixtures("way_of_rows")
def test_deferred_rows_end_where_pytorch_takes_them() -> None:
    """Of three tables, with gradients of 1, of a thousandth, and as small as eps."""
    scales, close = torch.tensor([1.0, 1e-3, 1e-6]), torch.tensor([1e-4, 1e-4, 3e-2])
    ours, theirs = ([table(seed) for seed in range(3)] for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    own, peer = Adam(options(*ours)), torch.optim.Adam(options(*theirs))
    starts = [one.detach().clone() for one in theirs]
    apart = torch.zeros(3)
    for number in range(900):
        own.param_groups[0]["lr"] = peer.param_groups[0]["lr"] = 0.01 / (1 + number % 7)
        read, gradient = draw(generator, 1.0)
        own.zero_grad()
        rows = torch.stack([one.rows(read) for one in ours])
        (rows * gradient).sum((1, 2)).dot(scales).backward()  # type: ignore[no-untyped-call]
        assert all(one.grad is not None and one.grad.is_sparse for one in ours)
        own.step()
        peer.zero_grad()
        rows = torch.stack([one[read] for one in theirs])
        (rows * gradient).sum((1, 2)).dot(scales).backward()  # type: ignore[no-untyped-call]
        peer.step()
        with torch.no_grad():
            off = torch.stack([one[read] - other[read] for one, other in zip(ours, theirs, strict=True)])
            apart = torch.maximum(apart, off.abs().amax((1, 2)))
        if number % 300 == 299:
            assert (apart <= close).all()
            own.catch_up()
            for one, other, start, within in zip(ours, theirs, starts, close, strict=True):
                moved = (other - start).abs().max()
                assert (one - other).abs().max() <= within * moved
                torch.testing.assert_close(own.state[one]["exp_avg"], peer.state[other]["exp_avg"], atol=0, rtol=1e-4)
                assert own.state[one]["step"] == number + 1


@pytest.mark.usefixtures("way_of_rows")
def test_one_row_by_hand() -> None:
    """A gradient of 2 in the second step, then nothing for five more, in plain numbers."""
    weight = Table(torch.ones(ROWS, 1))
    adam = Adam(options(weight))
    step_rows(adam, weight, torch.tensor([7]), torch.zeros(1, 1))
    step_rows(adam, weight, torch.tensor([5]), torch.full((1, 1), 2.0))
    for _ in range(5):
        step_rows(adam, weight, torch.tensor([7]), torch.zeros(1, 1))
    adam.catch_up()
    value, mean, square = 1.0, 0.0, 0.0
    for step in range(1, 8):
        gradient = 2.0 if step == 2 else 0.0
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    assert weight[5].item() == pytest.approx(value, abs=1e-6)
    assert weight.sum().item() == pytest.approx(ROWS - 1 + value, abs=1e-4)


@pytest.mark.usefixtures("way_of_rows")
@pytest.mark.parametrize("row", [-1, ROWS, 10**11])
def test_a_row_that_the_table_lacks_is_an_error_and_changes_nothing(row: int) -> None:
    weight = table()
    adam = Adam(options(weight))
    read, gradient = draw(torch.Generator().manual_seed(1), 1.0)
    step_rows(adam, weight, read, gradient)
    before = weight.detach().clone()
    adam.zero_grad()
    with pytest.raises(IndexError, match=f"{row}.*of a table that has {ROWS}"):
        weight.rows(torch.tensor([1, row]))
    assert torch.equal(weight, before)


def test_batches_that_are_not_stepped_do_not_add_up() -> None:
    weight = table()
    adam = Adam(options(weight))
    for _ in range(100):
        adam.zero_grad()
        weight.rows(torch.arange(3))
        assert adam.defers_rows(weight, 3)


def test_a_sparse_gradient_of_rows_that_were_not_read_is_an_error() -> None:
    weight = table()
    adam = Adam(options(weight))
    read, gradient = draw(torch.Generator().manual_seed(1), 1.0)
    for _ in range(2):
        step_rows(adam, weight, read, gradient)
    adam.zero_grad()
    other = torch.tensor([row for row in range(ROWS) if row not in read][:2])
    torch.nn.functional.embedding(other, weight, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(TrainingError, match="past its methods"):
        adam.step()


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_updated_the_same_with_and_without_numba(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled_rows, "_WORTH_THREADS", 0)
    monkeypatch.setattr(compiled_rows, "_LARGE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    compiled, plain = table(), table()
    adams = [Adam(options(weight)) for weight in (compiled, plain)]
    start, generator = plain.detach().clone(), torch.Generator().manual_seed(1)
    for number in range(300):
        read, gradient = draw(generator, 1.0)
        for adam, weight in zip(adams, (compiled, plain), strict=True):
            monkeypatch.setattr(compiled_rows, "has_numba", lambda weight=weight: weight is compiled)
            adam.param_groups[0]["lr"] = 0.01 / (1 + number % 7)
            step_rows(adam, weight, read, gradient)
    assert [adam._deferred[weight]._is_compiled for adam, weight in zip(adams, (compiled, plain), strict=True)] == [
        True,
        False,
    ]
    for adam in adams:
        adam.catch_up()
    assert (compiled - plain).abs().max() <= 1e-6 * (plain - start).abs().max()


@pytest.mark.parametrize(
    ("read", "decay", "deferred"),
    [(2, 0.0, True), (2, 0.1, False), (300, 0.0, False), (33, 0.0, True), (34, 0.0, False)],
)
def test_rows_are_deferred_in_large_tables_without_decay(read: int, decay: float, deferred: bool) -> None:
    weight = table()
    adam = Adam(options(weight, weight_decay=decay))
    adam.zero_grad()
    one, other = weight.rows(torch.arange(read // 2), torch.arange(read // 2, read))
    (one.sum() + other.sum()).backward()
    assert weight.grad is not None
    assert weight.grad.is_sparse == deferred


@pytest.mark.parametrize("calls", ["two reads", "rows, then all", "all, then rows", "rows, all unused"])
def test_a_step_may_read_a_table_several_times(calls: str) -> None:
    """Each as the same step on a plain parameter, after a step that left rows deferred."""
    ours, theirs = table(), nn.Parameter(table().detach())
    own, peer = Adam(options(ours)), torch.optim.Adam(options(theirs))
    few, more = torch.tensor([1, 2]), torch.tensor([[2, 3], [4, 4]])
    for number in range(6):
        kind, losses = calls if number % 2 else "two reads", list[Tensor]()
        own.zero_grad()
        peer.zero_grad()
        if kind == "all, then rows":
            losses.append(ours.all().square().sum())
        losses.append((number + 1) * ours.rows(few + number).sum())
        if kind == "two reads":
            losses.append(ours.rows(more).square().sum())
        if kind == "rows, then all":
            losses.append(ours.all().square().sum())
        if kind == "rows, all unused":
            assert torch.equal(ours.all(), ours.detach())
        expected = (number + 1) * theirs[few + number].sum()
        if kind == "two reads":
            expected = expected + theirs[more].square().sum()
        elif kind != "rows, all unused":
            expected = expected + theirs.square().sum()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        expected.backward()  # type: ignore[no-untyped-call]
        own.step()
        peer.step()
    own.catch_up()
    torch.testing.assert_close(ours.data, theirs.data, rtol=0, atol=1e-6)


def test_whatever_reads_a_table_by_its_methods_sees_all_updates() -> None:
    """After five steps on row 1 and then five on row 2, row 1 has five more updates to come."""
    weight, reference = table(), nn.Parameter(table().detach())
    adam, peer = Adam(options(weight)), torch.optim.Adam(options(reference))
    for row in [1] * 5 + [2] * 5:
        step_rows(adam, weight, torch.tensor([row]), torch.ones(1, DIM))
        step_whole(peer, reference, torch.tensor([row]), torch.ones(1, DIM))
    stale = weight.detach().clone()
    copied = copy.deepcopy(weight)
    assert isinstance(copied, Table)
    assert copied.optimizer is None
    for seen in (copied, weight.all(), weight.detach()):
        torch.testing.assert_close(seen.data, reference.data, rtol=0, atol=1e-6)
    assert (stale[1] - weight[1]).abs().min() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(weight.rows(torch.tensor([1])), reference[1:2].detach(), rtol=0, atol=1e-6)
    step_rows(adam, weight, torch.tensor([3]), torch.ones(1, DIM))
    assert adam.state_dict()["state"][0]["step"] == 11
    assert weight.optimizer is None


def test_a_table_that_is_read_past_its_methods_is_an_error() -> None:
    weight = table()
    adam = Adam(options(weight))
    step_rows(adam, weight, torch.tensor([1]), torch.ones(1, DIM))
    adam.zero_grad()
    (weight.rows(torch.tensor([2])).sum() + weight.square().sum()).backward()
    with pytest.raises(TrainingError, match=r"a Table of shape \(400, 3\) was read past"):
        adam.step()


def test_another_optimizer_takes_a_table_over() -> None:
    weight = table()
    step_rows(Adam(options(weight)), weight, torch.tensor([1]), torch.ones(1, DIM))
    later = Adam(options(weight))
    step_rows(later, weight, torch.tensor([2]), torch.ones(1, DIM))
    assert weight.optimizer is later


def test_a_sparse_gradient_of_a_plain_parameter_counts_as_dense() -> None:
    ours, theirs = nn.Parameter(table().detach()), nn.Parameter(table().detach())
    own, peer = Adam(options(ours)), torch.optim.Adam(options(theirs), fused=True)
    index = torch.tensor([1, 1, 5])
    nn.functional.embedding(index, ours, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
    theirs[index].sum().backward()  # type: ignore[no-untyped-call]
    own.step()
    peer.step()
    assert torch.equal(ours, theirs)


def test_a_state_goes_on_in_either() -> None:
    ours, theirs, generator = table(), table(), torch.Generator().manual_seed(1)
    own = Adam(options(ours))
    for _ in range(30):
        step_rows(own, ours, *draw(generator, 1.0))
    own.catch_up()
    theirs.data.copy_(ours)
    peer = torch.optim.Adam(options(theirs))
    peer.load_state_dict({**peer.state_dict(), "state": copy.deepcopy(own.state_dict()["state"])})
    again = Table(ours.detach().clone())
    restored = Adam(options(again))
    restored.load_state_dict(peer.state_dict())
    for _ in range(5):
        read, gradient = draw(generator, 1.0)
        step_rows(own, ours, read, gradient)
        step_rows(restored, again, read, gradient)
        step_whole(peer, theirs, read, gradient)
    own.catch_up()
    restored.catch_up()
    assert torch.equal(ours, again)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shapes", [[(3, 2), (4,)], [(5, 2)]])
def test_a_state_of_others_is_refused(shapes: list[tuple[int, ...]]) -> None:
    others = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = Adam(options(*others))
    for weight in others:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    mine = Adam(options(nn.Parameter(torch.ones(3, 2))))
    with pytest.raises(ValueError, match=r"instead of \[1\]|instead of \(3, 2\)"):
        mine.load_state_dict(optimizer.state_dict())
