"""Later graph models against what the public MMRec toolbox computes from given parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from golden import Golden

from lmm4rec.recommenders.layergcn import LayerGCN
from lmm4rec.recommenders.selfcf import SelfCF


@torch.no_grad()
def test_layergcn(shared: Path) -> None:
    """The toolbox's losses are sums over the batch."""
    golden = Golden(shared, "layergcn")
    facts = golden.facts
    model = LayerGCN(
        golden.graph, {}, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_layers"]), dropout=0.0, l2_weight=float(facts["reg_weight"]),
    )  # fmt: skip
    model.nodes.copy_(torch.cat([golden.parameter(f"{side}_embeddings") for side in ("user", "item")]))
    golden.check(model, scale=len(golden.batch.users))


@torch.no_grad()
def test_selfcf(shared: Path) -> None:
    """The toolbox's C is a negative cosine, and its penalty a sum over the batch."""
    golden = Golden(shared, "selfcfed_lgn")
    facts = golden.facts
    weight = float(facts["reg_weight"]) * len(golden.batch.users)
    model = SelfCF(
        golden.graph, {}, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_layers"]), dropout=0.0, l2_weight=weight,
    )  # fmt: skip
    tables = [golden.parameter(f"online_encoder.embedding_dict.{side}_emb") for side in ("user", "item")]
    model.nodes.copy_(torch.cat(tables))
    golden.affine(model.predictor, "predictor")
    golden.check(model, extra=-1.0)
