"""Encoders as towers: what comes out from any block on is what comes out of the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from layered import ENCODERS, build, complete_inputs
from lmm4rec.encoders.color import Color
from lmm4rec.nn.transformers.towers import upper_parameters


@pytest.mark.long
@pytest.mark.parametrize("name", ENCODERS)
def test_from_any_block_on_come_the_vectors_of_the_whole(name: str, layered_root: Path) -> None:
    """Without pixels and spectrograms, and with zeros in place of the states of padding."""
    encoder = build(name, layered_root)
    inputs = complete_inputs(encoder)
    towers = encoder.towers()
    assert tuple(towers) == encoder.modalities
    with torch.no_grad():
        expected = encoder(inputs)
        for modality, tower in towers.items():
            states, vectors = tower.observe(inputs, range(tower.depth + 1))
            assert sorted(states) == list(range(tower.depth + 1))
            assert torch.equal(vectors, expected[modality])
            rest = inputs._replace(pixels=None, spectrograms=None, has_image=torch.ones(len(vectors), dtype=torch.bool))
            for block in range(tower.depth):
                kept = tower.kept(rest)
                entered = tower.upper(torch.where(kept[..., None], states[block], 0.0), rest, block)
                torch.testing.assert_close(entered, vectors, atol=2e-6, rtol=1e-5)
            for state in states.values():
                assert tower.read(state, rest).shape[0] == len(vectors)
        assert torch.equal(encoder(inputs)[modality], vectors)  # nothing is left behind in the encoder


@pytest.mark.long
@pytest.mark.parametrize("name", ENCODERS)
def test_the_upper_parameters_are_those_that_the_lower_blocks_do_not_read(name: str, layered_root: Path) -> None:
    encoder = build(name, layered_root)
    upper = upper_parameters(encoder, encoder.towers(), complete_inputs(encoder), 1)
    for tower in encoder.towers().values():
        assert {id(one) for one in tower.blocks[0].parameters()}.isdisjoint(map(id, upper))
        assert any(id(one) in set(map(id, upper)) for one in tower.blocks[-1].parameters())
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_an_encoder_without_blocks_has_no_towers() -> None:
    assert Color().towers() == {}
