"""The side network against its equations, written out with NumPy an item at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.nn.adapters.side import SideNetwork

STATES, DIMS = {"image": (5, 6), "text": (4, 3)}, {"image": 4, "text": 2}
ITEMS = 5


def network(states: dict[str, tuple[int, int]] = STATES, **options: int) -> SideNetwork:
    """With all weights drawn, so that every part of the equations counts."""
    side = SideNetwork(states, DIMS, torch.Generator().manual_seed(0), dim=3, **options)
    for weight in side.parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(weight.numel()))
    return side


def inputs(
    states: dict[str, tuple[int, int]] = STATES,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    present = {m: torch.ones(ITEMS, dtype=torch.bool) for m in states}
    present["image"][1] = present["image"][3] = False
    if "text" in states:
        present["text"][2] = present["text"][3] = False  # item 3 has neither
    return (
        {m: torch.randn(ITEMS, count, width, generator=generator) for m, (count, width) in states.items()},
        {m: torch.randn(ITEMS, DIMS[m], generator=generator) for m in states},
        present,
    )


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def by_hand(side: SideNetwork, item: int, kept: dict[str, list[int]]) -> dict[str, np.ndarray]:
    weights = {name: one.detach().double().numpy() for name, one in side.named_parameters()}
    states, vectors, present = inputs({m: STATES[m] for m in kept})
    names, steps = list(kept), len(next(iter(kept.values())))
    z = {}
    for m in names:
        for step, number in enumerate(kept[m]):
            s = states[m][item, number].double().numpy()
            z[m, step] = ((s - s.mean()) / np.sqrt(s.var() + 1e-5)) @ weights[f"project.{m}"][step]
    hidden = {ladder: np.zeros(3) for ladder in [*names, "between"]}
    for step in range(steps):
        for number, ladder in enumerate([*names, "between"][: len(names) + (len(names) > 1)]):
            if ladder == "between":
                has = [m for m in names if present[m][item]]
                shares = softmax(10 * weights["shares"][step][[names.index(m) for m in has]]) if has else []
                x = sum((share * z[m, step] for share, m in zip(shares, has, strict=True)), hidden[ladder])
            else:
                gate = 1 / (1 + np.exp(-10 * weights["gates"][step, number]))
                x = gate * z[ladder, step] + (1 - gate) * hidden[ladder]
            down = x @ weights["down"][step, number] + weights["bias"][step, number, 0]
            hidden[ladder] = x + gelu(down) @ weights["up"][step, number]
    joined = {m: np.concatenate([hidden[m], hidden["between"]]) if len(names) > 1 else hidden[m] for m in names}
    return {
        m: (vectors[m][item].double().numpy() + joined[m] @ weights[f"out.{m}"]) * float(present[m][item])
        for m in names
    }


@pytest.mark.parametrize("item", range(ITEMS))
def test_both_modalities_follow_the_equations_whatever_an_item_lacks(item: int) -> None:
    side = network(stride=2)
    assert side.used == {"image": [0, 4], "text": [1, 3]}  # as many of the deeper tower, evenly spread
    made = side(*inputs())
    for m, expected in by_hand(side, item, side.used).items():
        np.testing.assert_allclose(made[m][item].detach().numpy(), expected, atol=1e-5)


def test_one_modality_has_nothing_between() -> None:
    states = {"image": STATES["image"]}
    side = network(states, stride=1)
    assert side.used == {"image": [0, 1, 2, 3, 4]}
    made = side(*inputs(states))
    for item in range(ITEMS):
        np.testing.assert_allclose(
            made["image"][item].detach().numpy(), by_hand(side, item, side.used)["image"], atol=1e-5
        )


def test_it_starts_as_what_it_stands_beside_and_gradient_is_finite() -> None:
    side = SideNetwork(STATES, DIMS, torch.Generator().manual_seed(0), dim=3)
    states, vectors, present = inputs()
    made = side(states, vectors, present)
    for m, x in made.items():
        assert torch.equal(x, torch.where(present[m][:, None], vectors[m], 0.0))
    torch.stack([x.square().sum() for x in network()(states, vectors, present).values()]).sum().backward()
    torch.stack([x.square().sum() for x in made.values()]).sum().backward()
    for weight in side.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()
