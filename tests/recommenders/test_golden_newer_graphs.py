"""Later graph models against what the public MMRec toolbox computes from given parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import MODALITIES, NAMES, Golden

from lmm4rec.nn.graph import InteractionGraph, normalize
from lmm4rec.nn.modality_nodes import ModalityNodes
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.recommenders.damrs import DAMRS
from lmm4rec.recommenders.dragon import DRAGON
from lmm4rec.recommenders.dualgnn import DualGNN
from lmm4rec.recommenders.layergcn import LayerGCN
from lmm4rec.recommenders.mmgcf import MMGCF
from lmm4rec.recommenders.mvgae import MVGAE, Posterior, product
from lmm4rec.recommenders.pgl import PGL
from lmm4rec.recommenders.selfcf import SelfCF
from lmm4rec.recommenders.smore import SMORE


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


def fill_modality_nodes(golden: Golden, target: ModalityNodes) -> None:
    for m, name in NAMES.items():
        parts: Any = (target.preferences[m], target.hidden.maps[m], target.hidden.offsets[m])
        theirs = ("preference", "MLP.weight", "MLP.bias")
        for part, given in zip(parts, theirs, strict=True):
            value = golden.parameter(f"{name}.{given}")
            part.copy_(value.T if given.endswith("weight") else value)
        second: Any = target.maps[m]
        golden.affine(second, f"{name}.MLP_1")


def given_neighbors(golden: Golden, found: SparseMatrix) -> SparseMatrix:
    """The toolbox's user graph, which broke ties in its own way; its weights, sorted, are those of ours."""
    neighbors, weights = golden.tensors["in.user_neighbors"].long(), golden.tensors["in.user_weights"]
    users, k = weights.shape
    ours = found.matrix.to_dense().topk(k, dim=1).values
    torch.testing.assert_close(ours, weights.sort(dim=1, descending=True).values, rtol=0, atol=1e-6)
    rows = torch.arange(users).repeat_interleave(k)
    return SparseMatrix(rows, neighbors.flatten(), weights.flatten(), (users, users))


def mean_squares(golden: Golden, importance: torch.Tensor) -> float:
    """Theirs are means over numbers: of the batch's preferences, and of all weights of users."""
    preferences = [golden.parameter(f"{name}.preference")[golden.batch.users] for name in NAMES.values()]
    return sum(float((x**2).mean()) for x in [*preferences, importance])


@torch.no_grad()
def test_dualgnn(shared: Path) -> None:
    """The toolbox's BPR is in log2; a user of it is w_0 (image + text) + w_1 text."""
    golden = Golden(shared, "dualgnn")
    width, neighbors = (int(golden.facts[key]) for key in ("dim_latent", "user_neighbors"))
    model = DualGNN(golden.graph, golden.features, torch.Generator(), dim=width, layers=2, neighbors=neighbors)
    fill_modality_nodes(golden, model.content)
    w = golden.parameter("weight_u")[:, :, 0]
    model.importance.copy_(torch.stack([w[:, 0], w[:, 0] + w[:, 1]], dim=1))
    model.similar_users = given_neighbors(golden, model.similar_users)
    squares = mean_squares(golden, w) + float((golden.parameter("weight_i") ** 2).mean())
    extra = float(golden.facts["reg_weight"]) * squares
    golden.check(model, left_out=["l2"], scale=1 / math.log(2), extra=extra)


@torch.no_grad()
def test_dragon(shared: Path) -> None:
    golden = Golden(shared, "dragon")
    facts = golden.facts
    image = float(facts["mm_image_weight"])
    model = DRAGON(
        golden.graph, golden.features, torch.Generator(),
        dim=int(facts["dim_latent"]), layers=2, item_layers=int(facts["n_mm_layers"]),
        neighbors=int(facts["user_neighbors"]), item_neighbors=int(facts["knn_k"]),
        modality_weights={"image": image, "text": 1 - image},
    )  # fmt: skip
    fill_modality_nodes(golden, model.content)
    w = golden.parameter("weight_u")[:, :, 0]
    model.importance.copy_(w)
    model.similar_users = given_neighbors(golden, model.similar_users)
    extra = float(facts["reg_weight"]) * mean_squares(golden, w)
    golden.check(model, left_out=["l2"], scale=1 / math.log(2), extra=extra)
    assert list(model.embed(golden.features).parts) == list(MODALITIES)


@torch.no_grad()
def test_smore(shared: Path) -> None:
    golden = Golden(shared, "smore")
    facts = golden.facts
    assert int(facts["train_batch_size"]) == len(golden.batch.users)  # theirs divides the penalty by the configured one
    model = SMORE(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), item_layers=int(facts["n_layers"]),
        modality_neighbors={m: int(facts[f"{m}_knn_k"]) for m in MODALITIES}, dropout=float(facts["dropout_rate"]),
        contrast_weight=float(facts["cl_loss"]), l2_weight=float(facts["reg_weight"]),
    )  # fmt: skip
    golden.fill(model)
    affine: dict[str, Any] = {"gate_f.0": model.fusion_gate, "gate_fusion_prefer.0": model.fusion_preference}
    for m, letter in zip(MODALITIES, "vt", strict=True):
        weight: Any = model.filters[m].weight
        weight.copy_(golden.parameter(f"{m}_complex_weight")[0])
        affine |= {f"gate_{letter}.0": model.gates[m], f"gate_{m}_prefer.0": model.preferences[m]}
        affine[f"query_{letter}.0"] = model.queries[m]
        model.asked[m].copy_(golden.parameter(f"query_{letter}.2.weight").T)
    model.fusion_filter.weight.copy_(golden.parameter("fusion_complex_weight")[0])
    for name, target in affine.items():
        golden.affine(target, name)
    golden.check(model)


@pytest.mark.parametrize("weighting", ["equal", "alpha", "normalized"])
@pytest.mark.parametrize("fusion", ["mean", "sum", "concat"])
@torch.no_grad()
def test_mmgcf(shared: Path, fusion: str, weighting: str) -> None:
    golden = Golden(shared, "mmgcf")
    facts = golden.facts
    names: Any = {"concat": "concatenate", "alpha": "learned"}
    model = MMGCF(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), fusion=names.get(fusion, fusion),
        weighting=names.get(weighting, weighting), dropout=0.0, l2_weight=float(facts["reg_weight"]), normalize=False,
    )  # fmt: skip
    golden.fill(model)
    if weighting == "alpha":
        model.id_share.copy_(golden.parameter("mm_alpha").reshape(1))
    theirs = {"content": "mm_concat_layer", "all": "id_mm_concat_layer"}
    for name, join in model.joins.items():
        target: Any = join
        golden.affine(target, theirs[name] if weighting == "equal" else "all_concat_layer")
    golden.check(model, of=f"_{fusion}_{weighting}")


@torch.no_grad()
def test_pgl(shared: Path) -> None:
    """The loss over the toolbox's local subgraph, and over its global one."""
    golden = Golden(shared, "pgl")
    facts = golden.facts
    image = float(facts["mm_image_weight"])
    model = PGL(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), item_layers=int(facts["n_mm_layers"]),
        neighbors=int(facts["knn_k"]), modality_weights={"image": image, "text": 1 - image},
        dropout=float(facts["dropout"]), contrast_weight=float(facts["reg_weight"]),
    )  # fmt: skip
    model.users.copy_(torch.cat([golden.parameter(f"user_{m}.weight") for m in MODALITIES], dim=1))
    for m in MODALITIES:
        model.projections.maps[m].copy_(golden.parameter(f"{m}_trs.weight").T)
        model.projections.offsets[m].copy_(golden.parameter(f"{m}_trs.bias"))
    golden.check_scores(model)
    sizes = golden.graph.n_users, golden.graph.n_items
    kept = InteractionGraph(golden.tensors["in.kept_users"], golden.tensors["in.kept_items"], *sizes)
    model.subgraph = normalize(kept)
    golden.check_loss(model)
    rows, columns = golden.tensors["out.global_graph"].nonzero(as_tuple=True)
    values = golden.tensors["out.global_graph"][rows, columns]
    model.subgraph = SparseMatrix(rows, columns, values, (sum(sizes), sum(sizes)))
    golden.check_loss(model, of="_global")


@torch.no_grad()
def test_damrs(shared: Path) -> None:
    golden = Golden(shared, "damrs")
    facts = golden.facts
    items = golden.graph.n_items
    model = DAMRS(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), item_layers=int(facts["n_mm_layers"]),
        neighbors=int(facts["knn_k"]), item_neighbors=int(facts["item_graph_topk"]),
        user_weight=float(facts["kl_weight"]), item_weight=float(facts["neighbor_weight"]),
    )  # fmt: skip
    model.nodes.copy_(torch.cat([golden.parameter(f"{side}_embedding.weight") for side in ("user", "item_id")]))
    # which of equally many common users come first was the file's choice
    given = (golden.tensors[f"in.item_graph_{side}"] for side in ("rows", "cols"))
    rows, columns = (torch.cat([torch.arange(items), side]) for side in given)
    assert model.behavior.matrix.values().shape == rows.shape
    degrees = torch.bincount(rows, minlength=items).float()
    model.behavior = SparseMatrix(rows, columns, (degrees[rows] * degrees[columns]).rsqrt(), (items, items))
    golden.check(model)


def mvgae_loss(golden: Golden, posteriors: dict[str, Posterior], *, shift: int, noise: float, beta: float) -> float:
    """The toolbox's: two sigmoids on the scores, the hardest negative of the batch, sums in log2.

    Items are the nodes `shift` beyond their number: 0 reads rows of users.
    """
    users, positives, negatives = (
        golden.batch.users,
        golden.batch.positives + shift,
        golden.batch.negatives[:, 0] + shift,
    )
    total = 0.0
    for name, posterior in posteriors.items():
        deviation = (posterior.log_variance.clamp(max=10) / 2).exp()
        z = (posterior.mean + noise * golden.tensors[f"in.noise_{name}"] * deviation).sigmoid()
        hardest = (z[users] @ z[negatives].T).amax(dim=1).sigmoid()
        positive = (z[users] * z[positives]).sum(1).sigmoid()
        total += float(-(positive - hardest).sigmoid().log2().sum() + beta * posterior.divergence())
    return total


@torch.no_grad()
def test_mvgae(shared: Path) -> None:
    """Scores, and the toolbox's losses from our posteriors."""
    golden = Golden(shared, "mvgae")
    facts = golden.facts
    model = MVGAE(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, content_dim=int(facts["dim_latent"]), layers=int(facts["n_layers"]), squash=True,
    )  # fmt: skip
    for m, name in NAMES.items():
        model.projections.maps[m].copy_(golden.parameter(f"{name}.MLP.weight").T)
        model.projections.offsets[m].copy_(golden.parameter(f"{name}.MLP.bias"))
        model.preferences[m].copy_(golden.parameter(f"{name}.preference"))
    ids = golden.parameter("collaborative") @ golden.parameter("c_gcn.MLP.weight").T + golden.parameter(
        "c_gcn.MLP.bias"
    )
    model.nodes.copy_(torch.cat([golden.parameter("c_gcn.preference"), ids]))
    experts: dict[str, Any] = {NAMES[m]: model.experts[m] for m in MODALITIES} | {"c_gcn": model.id_expert}
    for name, expert in experts.items():
        convolutions = {"4": expert.neighbors["mean"], "5": expert.neighbors["log_variance"]}
        convolutions |= {f"{number}": layer for number, layer in enumerate(expert.layers, start=1)}
        for number, target in convolutions.items():
            target.weight.copy_(golden.parameter(f"{name}.conv_embed_{number}.weight"))
            target.offset.copy_(golden.parameter(f"{name}.conv_embed_{number}.bias"))
        for number, joined in enumerate(expert.layers_joined, start=1):
            golden.affine(joined, f"{name}.g_layer{number}")
        for number, head in ((4, "mean"), (5, "log_variance")):
            golden.affine(expert.joined[head], f"{name}.g_layer{number}")
            golden.affine(expert.own[head], f"{name}.linear_layer{number}")
    golden.check_scores(model)
    found = model._posteriors(golden.features, None)
    posteriors = dict(zip([*MODALITIES, "id"], found, strict=True)) | {"joint": product(found)}
    beta, shift = float(facts["beta"]), golden.graph.n_users
    for name, arguments in {"": (0, 0.0), "_shifted": (shift, 0.0), "_noisy": (shift, 0.1)}.items():
        loss = mvgae_loss(golden, posteriors, shift=arguments[0], noise=arguments[1], beta=beta)
        assert loss == pytest.approx(float(golden.tensors[f"out.loss{name}"]), rel=1e-5)
