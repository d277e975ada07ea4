"""The shared transformer: what reaches what, training's extras, and the full sizes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import official
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs
from lmm4rec.nn.inputs import mask_empty_rows
from lmm4rec.nn.transformers.beit3 import network as beit3
from lmm4rec.nn.transformers.beit3.network import Beit3Model
from lmm4rec.nn.transformers.checkpoints import draw_weights
from lmm4rec.nn.transformers.multiway import Experts
from lmm4rec.nn.transformers.vlmo import network as vlmo
from lmm4rec.nn.transformers.vlmo.network import VlmoModel

SMALL = {"dim": 24, "layers": 3, "heads": 3, "ffn": 40, "vocabulary": 50, "image_size": 32, "patch": 8}
BEIT3 = beit3.Beit3Shape(**SMALL, projection=24, text_rows=20)
VLMO = replace(vlmo.SIZES["base"], **SMALL, vl_start=2, itc=24, vl=24, pooler=24, text_rows=20)
PLUS = replace(vlmo.SIZES["base_plus"], **SMALL, vl_start=2, itc=24, vl=24, pooler=24, text_rows=20)
SHAPES = [BEIT3, VLMO, PLUS]
NAMES = ["beit3", "vlmo", "vlmo_plus"]


def make(shape: beit3.Beit3Shape | vlmo.VlmoShape, **options: object) -> Beit3Model | VlmoModel:
    """A network with drawn weights; a bias table too, which would be 0 else."""
    with torch.device("meta"):
        model = Beit3Model(shape, **options) if isinstance(shape, beit3.Beit3Shape) else VlmoModel(shape, **options)
    generator = torch.Generator().manual_seed(0)
    draw_weights(model, generator)
    if isinstance(model, VlmoModel) and model.bias_table is not None:
        nn.init.normal_(model.bias_table, generator=generator)
    return model.eval()


def run(model: Beit3Model | VlmoModel, pixels: Tensor, ids: Tensor, mask: Tensor) -> list[Tensor]:
    inputs = Inputs(pixels, ids, mask)
    spaces = {"image": "itc", "text": "vl", "fused": "itc"}
    return [model.last_states(inputs, modality, space=space) for modality, space in spaces.items()]


PIXELS = official.images(3, 32)
IDS, MASK = official.sentences([9, 5, 2], 9, 50)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_padding_changes_nothing(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    """Neither how much padding there is nor what stands in it."""
    model = make(shape)
    longer = torch.cat([torch.where(MASK, IDS, 17), torch.full((3, 6), 23)], dim=1)
    mask = torch.cat([MASK, torch.zeros(3, 6, dtype=torch.bool)], dim=1)
    with torch.inference_mode():
        short, long = run(model, PIXELS, IDS, MASK), run(model, PIXELS, longer, mask)
    torch.testing.assert_close(long[1][:, :9][MASK], short[1][MASK], atol=1e-5, rtol=0)
    if isinstance(shape, beit3.Beit3Shape):
        torch.testing.assert_close(long[2][:, :17], short[2][:, :17], atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(long[2][:, -17:], short[2][:, -17:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_an_empty_text_is_finite(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    mask = MASK.clone()
    mask[1] = False
    model = make(shape)
    with torch.inference_mode():
        states, whole = run(model, PIXELS, IDS, mask), run(model, PIXELS, IDS, MASK)
    assert all(x.isfinite().all() for x in states)
    torch.testing.assert_close(states[1][0][MASK[0]], whole[1][0][MASK[0]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_bfloat16_is_near_float32(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    model = make(shape)
    with torch.inference_mode():
        exact = run(model, PIXELS, IDS, MASK)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = run(model, PIXELS, IDS, MASK)
    for x, y in zip(exact, near, strict=True):
        assert torch.nn.functional.cosine_similarity(x[:, 0], y[:, 0].float()).min() > 0.999
        assert not torch.equal(x, y.float())


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_drop_path_is_of_training_alone(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    plain, dropping = make(shape), make(shape, drop_path=0.5)
    with torch.inference_mode():
        for x, y in zip(run(plain, PIXELS, IDS, MASK), run(dropping, PIXELS, IDS, MASK), strict=True):
            assert torch.equal(x, y)
        dropping.train()
        before = torch.get_rng_state()
        drawn = []
        for _ in range(2):
            dropping.blocks.generator = torch.Generator().manual_seed(5)
            drawn.append(run(dropping, PIXELS, IDS, MASK)[0])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], run(plain, PIXELS, IDS, MASK)[0])


def test_drop_path_keeps_the_mean() -> None:
    """The first block is never dropped; the last one at the full rate, and what stays is scaled up."""
    blocks = make(BEIT3, drop_path=0.4).blocks.train()
    blocks.generator = torch.Generator().manual_seed(0)
    keep = blocks._keep(20_000)
    assert keep is not None
    torch.testing.assert_close(keep.mean((1, 2)), torch.ones(3), atol=0.02, rtol=0)
    dropped = (keep == 0).float().mean((1, 2))
    torch.testing.assert_close(dropped, torch.tensor([0.0, 0.2, 0.4]), atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_checkpointing_gives_the_same_gradients(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make(shape, drop_path=0.3, checkpointing=checkpointing).train()
        model.blocks.generator = torch.Generator().manual_seed(2)
        sum((x.square().sum() for x in run(model, PIXELS, IDS, MASK)), torch.zeros(())).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(gradient.any() for name, gradient in gradients[0].items() if "bias_table" in name or "positions" in name)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_each_token_goes_through_its_own_expert() -> None:
    experts = Experts(("a", "b"), lambda: nn.Linear(1, 1, bias=False))
    for kind, factor in (("a", 2.0), ("b", 5.0)):
        nn.init.constant_(experts[kind].weight, factor)
    with torch.no_grad():
        out = experts(torch.ones(1, 5, 1), [("b", 2), ("a", 3)])
    assert out.flatten().tolist() == [5, 5, 2, 2, 2]


def test_the_first_token_of_empty_rows_alone_is_unmasked() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mask_empty_rows(mask).tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_inputs_of_another_checkpoint_are_refused(shape: beit3.Beit3Shape | vlmo.VlmoShape) -> None:
    model = make(shape)
    with pytest.raises(ConfigError, match=re.escape("takes pixels of shape [batch, 3, 32, 32], got [3, 3, 40, 40]")):
        run(model, official.images(3, 40), IDS, MASK)
    with pytest.raises(ConfigError, match="token id 50 is beyond the checkpoint's vocabulary of 50"):
        run(model, PIXELS, IDS + 50 - IDS.max(), MASK)
    long = 300
    with pytest.raises(ConfigError, match=r"the texts have 300 tokens, the encoder has positions for \d+"):
        run(model, PIXELS, torch.zeros(3, long, dtype=torch.int64), torch.ones(3, long, dtype=torch.bool))


def size(model: nn.Module, but: str = "^$") -> int:
    return sum(weight.numel() for name, weight in model.named_parameters() if not re.match(but, name))


def test_the_full_size_of_beit3() -> None:
    """The counts that its authors' code gives, retrieval heads and logit scale included."""
    with torch.device("meta"):
        base, large = (Beit3Model(beit3.SIZES[name]) for name in ("base", "large"))
    assert size(base) == 222_167_041
    backbone = [name for name in base.state_dict() if not re.match("image_head|text_head|logit_scale", name)]
    assert len(backbone) == 491
    assert base.words.weight.shape == (64010, 768)
    assert base.image_positions.shape == (199, 768)
    assert base.text_positions.shape == (1024, 768)
    assert len(large.blocks) == 24


@pytest.mark.parametrize(("name", "millions"), [("base", 175), ("base_plus", 167), ("large", 562)])
def test_the_full_size_of_vlmo(name: str, millions: int) -> None:
    """The published counts are those without pooler, projections and temperatures."""
    with torch.device("meta"):
        model = VlmoModel(vlmo.SIZES[name])
    assert round(size(model, but="pooler|itc|vl_|logit") / 1e6) == millions
    shape = vlmo.SIZES[name]
    if name == "base_plus":
        assert model.image_positions is not None
        assert model.image_positions.shape == (1, 197, 544)
        assert model.bias_table is None
    else:
        assert model.bias_table is not None
        assert model.bias_table.shape == (1126, shape.layers * shape.heads)
    with_both = [index for index, block in enumerate(model.blocks) if "vl" in block.ffn]  # type: ignore[operator]
    assert with_both == {"base": [10, 11], "base_plus": [21, 22, 23], "large": [21, 22, 23]}[name]
