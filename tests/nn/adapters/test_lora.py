"""LoRA: starts as the encoder, leaves its weights alone, and becomes an ordinary encoder again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from layered import SEVERAL_MODALITIES, build, complete_inputs
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.color import Color
from lmm4rec.nn.adapters.lora import add_lora, load_lora, lora_weights, merged, save_lora

pytest.importorskip("peft")


def trained(encoder: Encoder, steps: int = 3) -> None:
    """A few steps of every weight that trains, towards vectors that the encoder does not give."""
    inputs = complete_inputs(encoder)
    optimizer = torch.optim.AdamW([one for one in encoder.parameters() if one.requires_grad], lr=0.01, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum((x[:, :4].sum() for x in encoder(inputs).values()), torch.zeros(()))
        loss.backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVERAL_MODALITIES)
def test_only_lora_trains_and_merged_it_is_an_encoder_of_the_same_kind(
    name: str, layered_root: Path, tmp_path: Path
) -> None:
    encoder = build(name, layered_root)
    inputs = complete_inputs(encoder)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    with torch.no_grad():
        own = encoder(inputs)
        adapted = add_lora(encoder, rank=2, alpha=4.0)
        for modality, x in encoder(inputs).items():
            assert torch.equal(x, own[modality])
    assert adapted
    trained(encoder)
    # every layer's update has been trained, and nothing else
    assert len(lora_weights(encoder)) == 2 * len(adapted)
    after = {key.replace(".base_layer", ""): tensor for key, tensor in encoder.state_dict().items()}
    for key, tensor in before.items():
        assert torch.equal(after[key], tensor)
    with torch.no_grad():
        learned = encoder(inputs)
    with merged(encoder), torch.no_grad():
        assert encoder.state_dict().keys() == before.keys()
        plain = encoder(inputs)
        if hasattr(encoder, "save_pretrained"):
            encoder.save_pretrained(tmp_path / "saved")
            again = type(encoder).from_pretrained(tmp_path / "saved").eval()  # type: ignore[attr-defined]
            assert again.fingerprint() == encoder.fingerprint()
    for modality, x in plain.items():
        assert (x - own[modality]).abs().max() > 0.01
        torch.testing.assert_close(x, learned[modality], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        for modality, x in encoder(inputs).items():
            assert torch.equal(x, learned[modality])


def test_a_linear_layer_with_lora_is_the_equation() -> None:
    model = nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 2)})
    assert add_lora(model, rank=2, alpha=6.0, targets=["second"]) == ["second"]
    weights = {name.split("lora_")[1][0]: one for name, one in lora_weights(model).items()}
    torch.nn.init.normal_(weights["B"], generator=torch.Generator().manual_seed(0))
    x, second = torch.ones(1, 4), model["second"]
    expected = x @ second.weight.T + second.bias + 6 / 2 * x @ weights["A"].T @ weights["B"].T
    torch.testing.assert_close(second(x), expected)


@pytest.mark.long
def test_the_updates_alone_are_saved_and_found_again(layered_root: Path, tmp_path: Path) -> None:
    first, second, other = (build("clip", layered_root) for _ in range(3))
    for encoder in (first, second):
        add_lora(encoder, rank=2, targets=["q_proj", "v_proj"], seed=1)
    trained(first)
    save_lora(first, tmp_path / "lora.safetensors")
    load_lora(second, tmp_path / "lora.safetensors")
    inputs = complete_inputs(first)
    for modality, x in first(inputs).items():
        assert torch.equal(second(inputs)[modality], x)
    add_lora(other, rank=3, targets=["q_proj", "v_proj"])
    with pytest.raises(CheckpointError, match=r"is \(2, 32\) there and \(3, 32\) here"):
        load_lora(other, tmp_path / "lora.safetensors")


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    models = [nn.Sequential(nn.Linear(3, 3)) for _ in range(3)]
    torch.set_rng_state(state)
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (lora_weights(model)["0.lora_A.default.weight"] for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_adapted_says_so() -> None:
    with pytest.raises(ConfigError, match="Color has no linear layer for LoRA"):
        add_lora(Color())
    with pytest.raises(ConfigError, match=r"has 'frist' in its name. Did you mean 'first'\? .* are: first"):
        add_lora(nn.ModuleDict({"first": nn.Linear(3, 4)}), targets=["frist"])
