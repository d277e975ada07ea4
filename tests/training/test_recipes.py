"""Recipes of fine-tuning: what decays, the rate of each layer, and the numbers of the published code."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.vlmo import Vlmo
from lmm4rec.encoding.shared_space import LARGEST_LOG_SCALE
from lmm4rec.evaluation.alignment import retrieval_recall
from lmm4rec.nn.adapters.side import SideNetwork
from lmm4rec.nn.transformers.beit3 import network as beit3_network
from lmm4rec.nn.transformers.beit3 import recipe as beit3_recipe
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.nn.transformers.towers import Tower
from lmm4rec.nn.transformers.vlmo import network as vlmo_network
from lmm4rec.nn.transformers.vlmo import recipe as vlmo_recipe
from lmm4rec.training import finetuning
from lmm4rec.training.finetuning import fit_pairs, loss_weights, recipe_of
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.parameter_groups import decays, grouped, layer_factors
from lmm4rec.training.recipes import PLAIN, recipe_record, schedule_of
from toys import Toy, toy_items

TEXTS = ["a red mug of steel", "the blue lamp", "a red lamp of oak for the small room", "one mug", "steel chair"]
KINDS: dict[str, type[Encoder]] = {"clip": Clip, "vlmo": Vlmo, "beit3": Beit3}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """Tiny ones of two blocks."""
    pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    folders = {name: tmp_path_factory.mktemp(name) for name in KINDS}
    for name, kind in KINDS.items():
        kind.write_tiny(folders[name], TEXTS)
    return {name: kind(checkpoint=str(folders[name])) for name, kind in KINDS.items()}


def both(*names: str) -> list[str]:
    return [name.replace("?", kind) for name in names for kind in ("image", "text")]


BLOCKS = {
    "clip": [
        f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")
    ] + ["mlp.fc1.weight", "mlp.fc2.weight"],
    "vlmo": ["attention.project.weight", "attention.out.any.weight", *both("ffn.?.fc1.weight", "ffn.?.fc2.weight")],
    "beit3": both(
        "attention.project.query.?.weight", "attention.project.key.?.weight", "attention.project.value.?.weight",
        "attention.out.?.weight", "ffn.?.fc1.weight", "ffn.?.fc2.weight",
    ),
}  # fmt: skip
DECAYED = {  # every matrix of a linear layer, of patches and of words, and no other tensor
    "clip": {
        "text_model.embeddings.token_embedding.weight", "vision_model.embeddings.patch_embedding.weight",
        "visual_projection.weight", "text_projection.weight",
        *(f"{side}_model.encoder.layers.{n}.{name}" for side in ("text", "vision") for n in (0, 1)
          for name in BLOCKS["clip"]),
    },
    "vlmo": {
        "words.weight", "text_types.weight", "types.weight", "patches.proj.weight", "itc_image.weight",
        "itc_text.weight", "vl_image.weight", "vl_text.weight", "pooler.weight", "itm.weight",
        *(f"blocks.{n}.{name}" for n in (0, 1) for name in BLOCKS["vlmo"]),
        "blocks.1.ffn.vl.fc1.weight", "blocks.1.ffn.vl.fc2.weight",
    },
    "beit3": {
        "words.weight", "patches.proj.weight", "image_head.weight", "text_head.weight",
        *(f"blocks.{n}.{name}" for n in (0, 1) for name in BLOCKS["beit3"]),
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_matrices_decay_and_nothing_else(name: str, encoders: Mapping[str, Encoder]) -> None:
    parameters = dict(encoders[name].named_parameters())
    assert {key.removeprefix("model.") for key, weight in parameters.items() if decays(key, weight)} == DECAYED[name]


def test_positions_and_tokens_of_other_models_do_not_decay() -> None:
    matrix, token = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(1, 1, 4))
    for name in ("embeddings.position_embeddings.weight", "pos_embed", "encoder.relative_attention_bias.weight"):
        assert not decays(name, matrix)
    for name in ("embeddings.cls_token", "embeddings.mask_token", "embeddings.register_tokens"):
        assert not decays(name, token)
    assert decays("embeddings.token_type_embeddings.weight", matrix)
    assert decays("base.layers.0.lora_A.default.weight", matrix)
    assert not decays("gate", torch.nn.Parameter(torch.ones(4)))


def test_matrices_of_a_side_network_decay_and_its_gates_do_not() -> None:
    side = SideNetwork({"image": (3, 8), "text": (3, 8)}, {"image": 4, "text": 4}, torch.Generator(), dim=4)
    found = {name for name, weight in side.named_parameters() if decays(name, weight)}
    assert found == {*both("project.?", "out.?"), "down", "up"}


LAYERS = {  # the layer of each parameter by the beginning of its name: 0 embeddings, 1 and 2 blocks, 3 what is above
    "clip": {
        0: ("text_model.embeddings", "vision_model.embeddings", "vision_model.pre_layrnorm"),
        1: ("text_model.encoder.layers.0", "vision_model.encoder.layers.0"),
        2: ("text_model.encoder.layers.1", "vision_model.encoder.layers.1"),
        3: ("text_model.final", "vision_model.post", "visual_projection", "text_projection", "logit_scale"),
    },
    "vlmo": {
        0: ("patches", "image_positions", "words", "text_positions", "text_types", "types", "text_norm"),
        1: ("blocks.0",),
        2: ("blocks.1",),
        3: ("norm", "itc_", "vl_", "logit", "pooler", "itm"),
    },
    "beit3": {
        0: ("patches", "mask_token", "words", "image_positions", "text_positions"),
        1: ("blocks.0",),
        2: ("blocks.1",),
        3: ("norm", "image_head", "text_head", "logit_scale"),
    },
}


@pytest.mark.parametrize("name", KINDS)
def test_each_layer_has_its_rate(name: str, encoders: Mapping[str, Encoder]) -> None:
    """0.65 ** (3 - layer): 0.274625, 0.4225, 0.65 and 1."""
    encoder, rates = encoders[name], (0.274625, 0.4225, 0.65, 1.0)
    schedule = LearningRateSchedule(learning_rate=2.0, weight_decay=0.05)
    groups = grouped("", encoder.named_parameters(), schedule, factors=layer_factors(encoder, 0.65))
    found = {weight: group.schedule for group in groups for weight in group.parameters}
    assert len(found) == len(list(encoder.parameters()))
    for key, weight in encoder.named_parameters():
        (layer,) = [n for n, starts in LAYERS[name].items() if key.removeprefix("model.").startswith(starts)]
        assert found[weight].learning_rate == pytest.approx(2 * rates[layer]), key
        assert found[weight].weight_decay == (0.05 if key.removeprefix("model.") in DECAYED[name] else 0), key


OFFICIAL: dict[str, tuple[FinetuningRecipe, dict[str, Any]]] = {  # as the sources in the modules of the recipes say
    "beit3 base": (
        beit3_recipe.retrieval_recipe(beit3_network.SIZES["base"]),
        {"learning_rate": 2e-4, "layer_decay": 0.65, "drop_path": 0.2, "weight_decay": 0.05, "warmup": 0.2,
         "betas": (0.9, 0.999), "schedule": "cosine", "end": 1e-6 / 2e-4, "batch_size": 3072},
    ),
    "beit3 large": (
        beit3_recipe.retrieval_recipe(beit3_network.SIZES["large"]),
        {"learning_rate": 5e-5, "layer_decay": 0.85, "drop_path": 0.2, "weight_decay": 0.05, "warmup": 0.2,
         "betas": (0.9, 0.999), "schedule": "cosine", "end": 1e-6 / 5e-5, "batch_size": 3072},
    ),
    "vlmo base": (
        vlmo_recipe.retrieval_recipe(vlmo_network.SIZES["base"]),
        {"learning_rate": 3e-5, "layer_decay": 1.0, "drop_path": 0.15, "weight_decay": 0.01, "warmup": 0.1,
         "betas": (0.9, 0.98), "schedule": "linear", "end": 0.0, "batch_size": 3072},
    ),
    "vlmo base plus": (
        vlmo_recipe.retrieval_recipe(vlmo_network.SIZES["base_plus"]),
        {"learning_rate": 3e-5, "drop_path": 0.2, "betas": (0.9, 0.98), "batch_size": 3072},
    ),
    "vlmo large": (
        vlmo_recipe.retrieval_recipe(vlmo_network.SIZES["large"]),
        {"learning_rate": 2e-5, "drop_path": 0.2, "betas": (0.9, 0.98), "batch_size": 3072},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_recipe_has_the_numbers_of_its_source(name: str) -> None:
    recipe, numbers = OFFICIAL[name]
    assert {key: getattr(recipe, key) for key in numbers} == numbers
    assert (recipe.clip_norm, recipe.bounds_temperature) == (0.0, False)
    assert (recipe.main_weight, recipe.vl_weight, recipe.matching_weight) == (1.0, 0.0, 0.0)


def test_a_published_rate_is_scaled_to_the_batch(encoders: Mapping[str, Encoder]) -> None:
    """By the square root: 3,072 / 192 = 16, a quarter of the rate. CLIP's is the same for any batch."""
    beit3, vlmo, clip = (
        recipe_of(encoders[name], {"recipe": "official", "batch_size": 192}) for name in ("beit3", "vlmo", "clip")
    )
    assert (beit3.learning_rate, vlmo.learning_rate) == pytest.approx((2e-4 / 4, 3e-5 / 4))
    assert schedule_of(beit3).at(99, 100) == pytest.approx(1e-6 / 4, rel=0.1)  # the end is scaled too
    assert clip.learning_rate == 1e-5
    assert (clip.weight_decay, clip.drop_path, clip.layer_decay, clip.bounds_temperature) == (0.1, 0.0, 1.0, True)


def test_what_is_given_wins_over_the_recipe(encoders: Mapping[str, Encoder]) -> None:
    given = {"learning_rate": 3e-3, "weight_decay": 0.0, "warmup": 0.0, "layer_decay": 0.9, "drop_path": 0.0}
    recipe = recipe_of(encoders["beit3"], {"recipe": "official", **given})
    assert {key: getattr(recipe, key) for key in given} == given
    assert recipe.betas == (0.9, 0.999)


def test_the_encoders_own_drop_path_wins_over_the_recipe_and_loses_to_the_options() -> None:
    assert recipe_of(Official(drop_path=0.3), {"recipe": "official"}).drop_path == 0.3
    assert recipe_of(Official(drop_path=0.3), {"recipe": "plain"}).drop_path == 0.3
    assert recipe_of(Official(drop_path=0.3), {"drop_path": 0.0}).drop_path == 0.0
    assert recipe_of(Official(), {"recipe": "official"}).drop_path == 0.2
    assert recipe_of(Official(), {}).drop_path == 0.0


def test_plain_is_what_it_was() -> None:
    assert recipe_of(Toy(), {}) == PLAIN
    assert recipe_record(PLAIN) == {
        "learning_rate": 1e-5, "batch_size": None, "schedule": "cosine", "warmup": 0.1, "end": 0.0,
        "betas": (0.9, 0.999), "weight_decay": 0.1, "layer_decay": 1.0, "drop_path": 0.0, "clip_norm": 1.0,
        "bounds_temperature": True, "main_weight": 1.0, "vl_weight": "auto", "matching_weight": "auto",
    }  # fmt: skip


def test_vlmo_has_the_losses_of_retrieval_or_of_pretraining(encoders: Mapping[str, Encoder]) -> None:
    def weights(name: str, **more: float) -> dict[str, float]:
        recipe = recipe_of(encoders["vlmo"], {"recipe": name, **more})
        assert (recipe.learning_rate, recipe.betas[1]) == (
            (1e-5, 0.999) if name == "plain" else (pytest.approx(3e-5 / math.sqrt(24)), 0.98)
        )
        parts = {key: getattr(recipe, key) for key in ("main_weight", "vl_weight", "matching_weight")}
        return loss_weights(encoders["vlmo"], **parts)

    assert weights("official") == {"itc": 1.0}
    assert weights("pretraining") == {"itc": 0.5, "vl": 0.5, "matching": 1.0}
    assert weights("plain") == {"itc": 1.0, "vl": 1.0, "matching": 1.0}
    assert weights("official", vl_weight=0.2) == {"itc": 1.0, "vl": 0.2}


def test_a_recipe_that_nobody_published_is_refused(encoders: Mapping[str, Encoder]) -> None:
    with pytest.raises(TrainingError, match=r'recipe = "official", but no such .* for Toy: there is "plain"$'):
        fit_pairs(Toy(), toy_items(8), None, recipe="official")
    with pytest.raises(TrainingError, match=r'for Clip: there is "plain" and "official"$'):
        recipe_of(encoders["clip"], {"recipe": "pretraining"})
    with pytest.raises(TrainingError, match=r"layer_decay = 0\.5, but Toy does not say"):
        fit_pairs(Toy(), toy_items(8), None, layer_decay=0.5)
    with pytest.raises(TrainingError, match=r"drop_path = 0\.5, but Clip has no blocks with stochastic depth"):
        recipe_of(encoders["clip"], {"drop_path": 0.5})


class Official(Toy):
    """A toy with the recipe of BEiT-3."""

    below_blocks = beit3_recipe.BELOW_BLOCKS

    def recipes(self) -> Mapping[str, FinetuningRecipe]:
        return {"official": beit3_recipe.retrieval_recipe(self.model.shape)}

    def towers(self) -> Mapping[str, Tower]:
        return {modality: self.model.tower(modality) for modality in self.dims}


OPTIONS: dict[str, Any] = {
    "recipe": "official", "epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "patience": 0, "precision": "float32",
    "device": "cpu",
}  # fmt: skip


class KilledError(Exception):
    pass


@pytest.mark.long
def test_killed_under_the_official_recipe_it_goes_on_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of parameters, layer-wise rates and the stochastic depth of the recipe included."""
    state, whole = tmp_path / "state.safetensors", Official()
    expected = fit_pairs(whole, toy_items(30), None, **OPTIONS)
    assert whole.model.blocks.drop_path == 0.0  # as before
    monkeypatch.setattr(finetuning, "Trainer", functools.partial(finetuning.Trainer, checkpoint_every_s=0.0))
    evaluations = iter(range(3))  # before training and after two epochs

    def kill(image: Tensor, text: Tensor) -> dict[str, float]:
        if next(evaluations, None) is None:
            raise KilledError
        return retrieval_recall(image, text)

    monkeypatch.setattr(finetuning, "retrieval_recall", kill)
    with pytest.raises(KilledError):
        fit_pairs(Official(), toy_items(30), state, **OPTIONS)
    monkeypatch.setattr(finetuning, "retrieval_recall", retrieval_recall)
    resumed = Official()
    assert fit_pairs(resumed, toy_items(30), state, **OPTIONS).rows == expected.rows
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    without = fit_pairs(Official(), toy_items(30), None, **OPTIONS | {"drop_path": 0.0})
    assert without.rows != expected.rows
    assert [row["learning_rate"] for row in without.rows] == [row["learning_rate"] for row in expected.rows]


def test_stochastic_depth_is_of_training_alone() -> None:
    """Validation during a training with the recipe's drop path sees all blocks."""
    encoder, seen = Official(), set()

    def look(_module: object, _given: tuple[Inputs], _out: object) -> None:
        keep = encoder.model.blocks._keep(1)
        seen.add((encoder.training, encoder.model.blocks.drop_path, keep is None))

    encoder.register_forward_hook(look)
    fit_pairs(encoder, toy_items(12), None, **OPTIONS | {"epochs": 1})
    assert seen == {(False, 0.0, True), (True, 0.2, False), (False, 0.2, True)}


@pytest.mark.parametrize(("recipe", "bounded"), [("plain", True), ("official", False)])
def test_the_temperature_is_bounded_where_the_recipe_says_so(recipe: str, bounded: bool) -> None:
    encoder = Official()
    with torch.no_grad():
        encoder.logit_scale.fill_(LARGEST_LOG_SCALE + 1.0)
    fit_pairs(encoder, toy_items(12), None, **OPTIONS | {"epochs": 1, "recipe": recipe, "learning_rate": 1e-4})
    assert (encoder.logit_scale.item() <= LARGEST_LOG_SCALE + 1e-6) == bounded


def test_groups_step_as_in_pytorch() -> None:
    """Betas, layer-wise rates and decay of groups, against torch.optim.AdamW in five steps with a schedule."""
    own, peer = Official(), Official()
    recipe = replace(beit3_recipe.retrieval_recipe(own.model.shape), betas=(0.8, 0.98), learning_rate=1e-2)
    schedule = schedule_of(recipe)
    groups = grouped("", own.named_parameters(), schedule, factors=layer_factors(own, recipe.layer_decay))
    optimizer = Adam([group.options() for group in groups], decoupled=True)
    heights = [(group.schedule.learning_rate, group.schedule.weight_decay) for group in groups]
    peers = dict(zip(own.parameters(), peer.parameters(), strict=True))
    expected = torch.optim.AdamW(
        [
            {"params": [peers[weight] for weight in group.parameters], "lr": lr, "weight_decay": decay}
            for group, (lr, decay) in zip(groups, heights, strict=True)
        ],
        betas=(0.8, 0.98),
    )
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        for group, options, other in zip(groups, optimizer.param_groups, expected.param_groups, strict=True):
            options["lr"] = other["lr"] = group.schedule.at(step, 5)
        for weight, twin in peers.items():
            weight.grad = torch.randn(weight.shape, generator=generator)
            twin.grad = weight.grad.clone()
        optimizer.step()
        expected.step()
    for weight, twin in peers.items():
        torch.testing.assert_close(weight, twin, rtol=1e-6, atol=1e-7)


def test_a_schedule_ends_at_its_share() -> None:
    """BEiT-3: from 2e-4 down to 1e-6 by a cosine, `min + (max - min) (1 + cos) / 2`."""
    schedule = schedule_of(beit3_recipe.retrieval_recipe(beit3_network.SIZES["base"]))
    rates = [schedule.at(step, 150) for step in range(150)]
    by_hand = [1e-6 + 0.5 * (2e-4 - 1e-6) * (1 + math.cos(math.pi * i / 120)) for i in range(120)]
    assert rates[30:] == pytest.approx(by_hand)
    assert rates[:30] == pytest.approx([2e-4 * (step + 1) / 30 for step in range(30)])
    assert asdict(LearningRateSchedule())["end"] == 0.0
