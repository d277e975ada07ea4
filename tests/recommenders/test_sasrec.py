"""SASRec and GRU4Rec beside their equations in NumPy: mask, shift, padding, losses, and item vectors from content."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.sequences import PAD, SequenceBatch, Sequences
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.gru4rec import GRU4Rec
from lmm4rec.recommenders.sasrec import SASRec
from lmm4rec.testing import check_recommender, recommender_contracts

DIM, HEADS, LAYERS, LENGTH, ITEMS = 6, 2, 2, 4, 9
HISTORIES = [[3, 1, 4], [1, 5, 0, 2, 6, 8], [], [7]]  # of the second, the latest four are read

Weights = Mapping[str, Float64[np.ndarray, "..."]]


def graph_of(histories: list[list[int]]) -> InteractionGraph:
    users = torch.tensor([user for user, items in enumerate(histories) for _ in items])
    items = torch.tensor([item for history in histories for item in history])
    return InteractionGraph(users, items, len(histories), ITEMS, in_order=True)


def moved(model: torch.nn.Module) -> None:
    """Take all weights off their first values, in which offsets are 0 and norms 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: weight.double().numpy() for name, weight in model.state_dict().items()}


def norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def sasrec(weights: Weights, history: list[int]) -> np.ndarray:
    """The vector after each item of a history that is read in full, without any padding: eq. 1 to 5 of the paper."""
    w = {name.removeprefix("model.network."): one for name, one in weights.items()}
    vectors = weights["model.items.table"][history]
    steps = len(history)
    x = np.sqrt(DIM) * vectors + w["positions"][np.arange(steps)[::-1]]
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        normed = norm(x, w, f"{block}.before_attention")
        sides = [part.reshape(steps, HEADS, -1) for part in np.split(normed @ w[f"{block}.query_key_value"], 3, axis=1)]
        attended = np.zeros((steps, HEADS, DIM // HEADS))
        for head in range(HEADS):
            query, key, value = (side[:, head] for side in sides)
            for t in range(steps):  # only what came before, and the item itself
                logits = query[t] @ key[: t + 1].T / np.sqrt(DIM // HEADS)
                shares = np.exp(logits - logits.max())
                attended[t, head] = shares / shares.sum() @ value[: t + 1]
        x = x + attended.reshape(steps, DIM)
        inner = norm(x, w, f"{block}.before_feed_forward") @ w[f"{block}.inner.weight"] + w[f"{block}.inner.offset"]
        x = x + np.maximum(inner, 0) @ w[f"{block}.outer.weight"] + w[f"{block}.outer.offset"]
    return norm(x, w, "norm")


def gru(weights: Weights, history: list[int]) -> np.ndarray:
    """The vector after each item by the equations of Cho et al. 2014, as torch's GRU states them."""
    w = {name.removeprefix("model.network."): one for name, one in weights.items()}
    hidden, found = np.zeros(w["units.weight_hh_l0"].shape[1]), []
    for item in history:
        into = w["units.weight_ih_l0"] @ weights["model.items.table"][item] + w["units.bias_ih_l0"]
        back = w["units.weight_hh_l0"] @ hidden + w["units.bias_hh_l0"]
        (r_in, z_in, n_in), (r_back, z_back, n_back) = np.split(into, 3), np.split(back, 3)
        reset, update = (1 / (1 + np.exp(-(a + b))) for a, b in ((r_in, r_back), (z_in, z_back)))
        hidden = (1 - update) * np.tanh(n_in + reset * n_back) + update * hidden
        found.append(hidden @ w["outer.weight"] + w["outer.offset"])
    return np.array(found)


BUILD = {
    "sasrec": (SASRec, sasrec, {"layers": LAYERS, "heads": HEADS}),
    "gru4rec": (GRU4Rec, gru, {"hidden_dim": 5}),
}


def built(name: str, **more: object) -> tuple[SASRec | GRU4Rec, Weights]:
    component, _, settings = BUILD[name]
    generator = torch.Generator().manual_seed(0)
    model = component(graph_of(HISTORIES), {}, generator, dim=DIM, length=LENGTH, dropout=0.0, **settings, **more)
    moved(model)
    return model, weights_of(model)


@pytest.mark.parametrize("name", list(BUILD))
def test_user_vectors_are_those_of_the_equations_for_histories_of_any_length(name: str) -> None:
    model, weights = built(name)
    users = model.embed({}).users.numpy()
    for row, history in enumerate(HISTORIES):
        expected = BUILD[name][1](weights, history[-LENGTH:])[-1] if history else np.zeros(DIM)
        np.testing.assert_allclose(users[row], expected, atol=1e-5)


@pytest.mark.parametrize("name", list(BUILD))
@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax", "gbce"])
def test_a_loss_predicts_each_item_from_those_before_it(name: str, loss: str) -> None:
    model, weights = built(name, loss=loss)
    sequences, negatives = [[3, 1, 4], [5, 0, 2, 6]], [[[0, 2], [5, 6]], [[1, 3], [4, 7], [8, 1]]]
    log_expected = [[[0.1, -0.2], [0.3, -0.4]], [[0.5, -0.6], [0.7, -0.8], [0.9, -1.0]]]
    batch = SequenceBatch(
        torch.tensor([0, 1]),
        torch.tensor([[*sequences[0], PAD], sequences[1]]),
        torch.tensor([[*negatives[0], [3, 3]], negatives[1]]),
        torch.tensor([[*log_expected[0], [0.0, 0.0]], log_expected[1]]),
    )
    table, terms = weights["model.items.table"], []
    for sequence, others, logs in zip(sequences, negatives, log_expected, strict=True):
        users = BUILD[name][1](weights, sequence[:-1])
        for t, target in enumerate(sequence[1:]):
            terms.append(by_hand(loss, users[t] @ table[target], table[others[t]] @ users[t], np.array(logs[t])))
    assert model.losses(batch, {}, torch.Generator())[loss].item() == pytest.approx(np.mean(terms), abs=1e-5)


def by_hand(loss: str, positive: float, negatives: np.ndarray, log_expected: np.ndarray) -> float:
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    if loss == "bpr":
        return float(-np.log(sigmoid(positive - negatives)).mean())
    if loss == "softmax":
        return float(-np.log(np.exp(positive) / (np.exp(positive) + np.exp(negatives - log_expected).sum())))
    rate = len(negatives) / (ITEMS - 1)
    power = rate * (0.75 * (1 - 1 / rate) + 1 / rate) if loss == "gbce" else 1.0
    return float(-(np.log(sigmoid(positive) ** power) + np.log(1 - sigmoid(negatives)).sum()) / (1 + len(negatives)))


@pytest.mark.parametrize("name", list(BUILD))
def test_negatives_that_a_sequence_shares_are_those_of_each_target(name: str) -> None:
    model, _ = built(name, loss="softmax")
    sequences, shared = torch.tensor([[3, 1, 4, PAD], [5, 0, 2, 6]]), torch.tensor([[[0, 2, 8]], [[1, 3, 7]]])
    logs = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    users, generator = torch.tensor([0, 1]), torch.Generator()
    each = SequenceBatch(users, sequences, shared.repeat(1, 3, 1), logs.repeat(1, 3, 1))
    losses = [
        model.losses(batch, {}, generator)["softmax"] for batch in (each, SequenceBatch(users, sequences, shared, logs))
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("name", list(BUILD))
def test_what_comes_later_changes_nothing_before_it(name: str) -> None:
    network, generator = built(name)[0].model.network, torch.Generator().manual_seed(1)
    items, lengths = torch.randn(1, 4, DIM, generator=generator), torch.tensor([4])
    changed = items.clone()
    changed[0, 2] += 1.0
    one, other = network(items, lengths)[0], network(changed, lengths)[0]
    same = (one == other).all(1).tolist()
    assert same == [True, True, False, False]


@pytest.mark.parametrize("name", list(BUILD))
def test_dropout_is_applied_in_training_alone_and_follows_the_generator(name: str) -> None:
    model, _ = built(name)
    model.model.network.share = 0.5
    for block in getattr(model.model.network, "blocks", ()):
        block.share = 0.5
    items, lengths = torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 3])
    passes = [model.model.network(items, lengths, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])
    assert torch.equal(model.train().embed({}).users, model.eval().embed({}).users)


class OverContent(SASRec):
    """SASRec over content alone, as a class that needs features."""

    uses_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Mapping[str, Tensor],
        generator: torch.Generator,
        *,
        items: str = "content",
    ) -> None:
        super().__init__(graph, features, generator, items=items, layers=2, dim=32)  # type: ignore[arg-type]


@pytest.mark.long
def test_over_content_and_ids_it_keeps_the_contracts_of_models_that_use_content() -> None:
    check_recommender(OverContent, items="both")


@pytest.mark.parametrize(
    "contract",
    [name for name in recommender_contracts(OverContent) if "feature" in name or "gradient" in name or "adds" in name],
)
def test_over_content_alone_it_keeps_those_of_gradients_and_missing_content(contract: str) -> None:
    check_recommender(OverContent, contract=contract, items="content")


@pytest.mark.parametrize("hidden", [0, 6])
def test_an_item_vector_is_that_of_the_id_plus_the_maps_of_the_centered_features(hidden: int) -> None:
    """z W + (relu(sqrt(width) z V + b) - relu(b)) U for the unit vector z of the features from their mean."""
    generator = torch.Generator().manual_seed(0)
    features = {"image": torch.randn(ITEMS, 5, generator=generator), "text": torch.randn(ITEMS, 3, generator=generator)}
    features["image"][4] = 0  # no image
    model = SASRec(graph_of(HISTORIES), features, generator, dim=DIM, items="both", content_hidden=hidden)
    for offset in model.model.items.offsets.values():
        torch.nn.init.normal_(offset, generator=generator)
    weights = weights_of(model)
    expected = weights["model.items.table"].copy()
    for modality, x in features.items():
        rows = x.double().numpy()
        there = rows.any(1)
        offset = rows - rows[there].mean(0)
        unit = offset / np.linalg.norm(offset, axis=1, keepdims=True) * there[:, None]
        product = unit @ weights[f"model.items.maps.{modality}"]
        expected += product[:, :DIM]
        if hidden:
            b, outer = (weights[f"model.items.{name}.{modality}"] for name in ("offsets", "outer"))
            inner = np.sqrt(x.shape[1]) * product[:, DIM:]
            expected += (np.maximum(inner + b, 0) - np.maximum(b, 0)) @ outer
    np.testing.assert_allclose(model.embed(features).items.detach().numpy(), expected, atol=1e-6)


def test_content_without_features_is_refused() -> None:
    with pytest.raises(ConfigError, match='items = "content" needs features'):
        SASRec(graph_of(HISTORIES), {}, torch.Generator(), items="content")


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"recommender\.dim = 64 must be a multiple of recommender\.heads = 3"):
        SASRec(graph_of(HISTORIES), {}, torch.Generator(), heads=3)


def test_users_of_any_sequences_get_the_vectors_of_a_model_with_these_histories() -> None:
    model, _ = built("sasrec")
    scorer = model.embed({})
    other = scorer.of_sequences(Sequences.of_lists([np.array([7]), np.array([1, 5, 0, 2, 6, 8])]))
    torch.testing.assert_close(other.users, scorer.users[[3, 1]])
    assert other.items is scorer.items
