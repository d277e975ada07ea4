"""New items: regressions against NumPy, a world whose answer is known, VBPR's own path exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from lmm4rec.coldstart import fit_content_to_vectors as fit
from lmm4rec.coldstart.content_profile import CONTENT, ContentProfile, score_deviations
from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.coldstart.held_out_sample import HeldOutSample
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.linear_algebra import ridge
from lmm4rec.recommenders.vbpr import VBPR
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from worlds import camp_features, camps


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("items", [5, 40])
def test_ridge_is_least_squares_with_a_penalty(items: int) -> None:
    """min |x W + mean(y) - y|² + alpha |W|² as ordinary least squares on stacked rows; both ways to solve it."""
    x, y, alpha = drawn(items, 12), drawn(items, 3, seed=1), 0.7
    weights, mean = ridge(x, y, alpha)
    rows = np.vstack([x.numpy(), alpha**0.5 * np.eye(12)])
    expected = np.linalg.lstsq(rows, np.vstack([y.numpy() - y.numpy().mean(0), np.zeros((12, 3))]), rcond=None)[0]
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-4)
    torch.testing.assert_close(mean, y.mean(0))


def test_the_target_of_an_item_is_least_squares_against_its_users() -> None:
    users = drawn(30, 4) + 2.0
    interactions = sp.csr_array((np.random.default_rng(0).random((30, 6)) < 0.3).astype(np.float32))
    weight = 0.5 * 30 * float(users.numpy().var(axis=0).mean())
    rows = np.vstack([users.numpy(), weight**0.5 * np.eye(4)])
    expected = np.linalg.lstsq(rows, np.vstack([interactions.toarray(), np.zeros((4, 6))]), rcond=None)[0].T
    np.testing.assert_allclose(fit._target(users, interactions, 0.5).numpy(), expected, atol=1e-5)


def test_content_is_centered_on_what_is_there() -> None:
    """Mean over the two items that have it: (2, 0). Unit after centering: (0, 1), (0, -1); the lacking item is zero."""
    features = {"text": torch.tensor([[2.0, 4.0], [2.0, -4.0], [0.0, 0.0]])}
    content = ContentSpace.of(features)
    torch.testing.assert_close(content(features), torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]))
    torch.testing.assert_close(content.similarity(features, features)[0], torch.tensor([1.0, -1.0, 0.0]))


def world() -> tuple[InteractionGraph, dict[str, Tensor], Embeddings, Interactions]:
    """Three camps whose users and items stand on an axis each, with some noise; as many interactions as ever."""
    graph, _ = camps(items=16, users=20)
    features = camp_features(torch.Generator().manual_seed(0), items=16)
    users = torch.eye(3).repeat_interleave(20, 0) + 0.1 * drawn(60, 3)
    items = 2.0 * torch.eye(3).repeat_interleave(16, 0) + 0.1 * drawn(48, 3, seed=1)
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32))
    return graph, features, Embeddings(users, items), log


def bundle_of(
    scorer: Embeddings | Neighbors, features: dict[str, Tensor], content_to_vectors: ContentToVectors, log: Interactions
) -> Bundle:
    users = Vocabulary([f"u{row}" for row in range(scorer.n_users)], kind="user")
    items = Vocabulary([f"i{row}" for row in range(scorer.n_items)])
    return Bundle(scorer, users, items, list(items), log, {}, features=features, content_to_vectors=content_to_vectors)


def newborn(features: dict[str, Tensor], centers: int = 3) -> list[NewItem]:
    """An item for each camp, with the mean content of the camp's items."""
    means = {m: x.view(centers, -1, x.shape[1]).mean(1) for m, x in features.items()}
    return [NewItem(f"new{camp}", features={m: x[camp] for m, x in means.items()}) for camp in range(centers)]


def test_new_items_go_to_the_camp_of_similar_items() -> None:
    graph, features, scorer, log = world()
    content_to_vectors = fit_content_to_vectors(scorer, features, log)
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    bundle.add_items(newborn(features))
    new = ["new0", "new1", "new2"]
    for row in range(graph.n_users):
        best = bundle.recommend([f"u{row}"], k=1, only=new)[f"u{row}"][0]
        assert best.item == f"new{row // 20}"
    assert {one.item for one in bundle.similar(["new1"], k=16)["new1"]} == {f"i{row}" for row in range(16, 32)}
    assert (
        content_to_vectors.facts["recall@4"] > 2 * content_to_vectors.facts["recall@4 of chance"]
    )  # 9 items are held out


def test_new_items_are_neither_favored_nor_hidden() -> None:
    """A user's scores of new items are as spread as those of the model's items, and a fifth of them is in the lists.

    The new items are those of the world once more, with their content.
    """
    _, features, scorer, log = world()
    content_to_vectors = fit_content_to_vectors(scorer, features, log)
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    bundle.add_items(NewItem(f"new{row}", features={m: x[row] for m, x in features.items()}) for row in range(0, 48, 4))
    grown = bundle.scorer
    assert isinstance(grown, Embeddings)
    scores = grown.scores(torch.arange(60))
    torch.testing.assert_close(scores[:, :48], scorer.users @ scorer.items.T)
    assert float(scores[:, 48:].std(1).mean()) == pytest.approx(float(scores[:, :48].std(1).mean()), rel=0.15)
    scores[torch.from_numpy(log.users).long(), torch.from_numpy(log.items).long()] = -torch.inf
    assert float((scores.topk(4).indices >= 48).float().mean()) == pytest.approx(0.2, abs=0.1)


def test_users_have_the_content_of_their_items() -> None:
    """Sums (3, 4) and nothing, scaled to σ; σ, by the covariance diag(4, 1) of the items; the mean score."""
    interactions = sp.csr_array(np.array([[1, 1, 0], [0, 0, 0]], dtype=bool))
    known = torch.tensor([[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]])
    profile = ContentProfile(
        torch.eye(2), known, torch.eye(2), torch.ones(1), torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([0.5, 1.0])
    )
    columns = profile.user_columns(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), interactions, known)
    torch.testing.assert_close(columns, torch.tensor([[1.2, 1.6, 2.0, 0.5], [0.0, 0.0, 3.0, 3.0]]))


def test_deviations_are_those_of_the_scores() -> None:
    users, items = drawn(5, 4), drawn(30, 4, seed=1) + 2.0
    found = score_deviations(users, torch.cov(items.T, correction=0))[:, 0]
    np.testing.assert_allclose(found.numpy(), (users @ items.T).numpy().std(axis=1), rtol=1e-4)


def test_a_quarter_of_the_spread_is_the_model_s_own() -> None:
    """Within each user the deviations are 1 and 2; scaled to 1/4 and 3/4 and added they make 1, which is to be 6."""
    own, taste = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor([[2.0, -2.0], [-2.0, 2.0]])
    assert fit._factors(own, taste, 6.0) == pytest.approx((6 * 0.25, 6 * 0.75 / 2))
    assert fit._factors(torch.ones(2, 2), taste, 6.0) == pytest.approx((0.0, 3.0))  # no taste of its own


def test_the_level_gives_new_items_their_share_of_the_lists() -> None:
    """One user, four other items with scores 10, 8, 6, 4 (the 10 is theirs already), two held-out ones with 3 and 1.

    A list is one long. The better of the held-out items is on it with 5 more, or 8 thirds of what it has.
    """
    scorer = Embeddings(torch.tensor([[1.0]]), torch.tensor([[10.0], [8.0], [6.0], [4.0], [0.0], [0.0]]))
    held = np.array([False] * 4 + [True] * 2)
    interactions = sp.csr_array(np.array([[1, 0, 0, 0, 0, 1]], np.float32))
    sample = HeldOutSample(np.arange(6), held, {}, interactions, np.array([0]))
    scores = torch.tensor([[1.0, 3.0]])
    assert float(fit._level(scorer, sample, scores, torch.ones(1, 1))) == 5.0
    assert float(fit._level(scorer, sample, scores, torch.full((1, 1), 2.0))) == 2.5
    assert fit._scale(scorer, sample, scores) == pytest.approx(8 / 3)


def test_the_profile_is_the_same_for_every_model() -> None:
    """Two models of unlike vectors and widths: their profiles rank new items alike."""
    _, features, scorer, log = world()
    other = Embeddings(drawn(60, 5, seed=2), drawn(48, 5, seed=3))
    found = []
    for model in (scorer, other):
        content_to_vectors = fit_content_to_vectors(model, features, log)
        assert content_to_vectors is not None
        bundle = bundle_of(model, features, content_to_vectors, log)
        bundle.add_items(newborn(features))
        grown = bundle.scorer
        assert isinstance(grown, Embeddings)
        columns = grown.parts[CONTENT]
        scores = grown.users[:, columns] @ grown.items[-3:, columns].T
        found.append((scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_of_users_with_unlike_lists_a_share_is_won() -> None:
    """Five users whose lists begin at 1 to 5; the one held-out item, a fifth of all, scores 0 with each.

    A list is one long. With 2 more it is above what the first has (1) and at what the second has: one list of five.
    """
    scorer = Embeddings(torch.arange(1.0, 6.0)[:, None], torch.tensor([[1.0], [0.5], [0.2], [0.1], [0.0]]))
    held = np.arange(5) == 4
    sample = HeldOutSample(np.arange(5), held, {}, sp.csr_array((5, 5), dtype=np.float32), np.arange(5))
    level = float(fit._level(scorer, sample, torch.zeros(5, 1), torch.ones(5, 1)))
    assert level == 2.0
    assert int((scorer.scores(torch.arange(5))[:, :4].max(1).values < level).sum()) == 1


def with_profile() -> Bundle:
    """Two users with one column of the model, three items whose content is their place on the two axes.

    A new item's columns are: of the model, a tenth of the first number; by content, twice itself and a level of 5. The
    covariance is set to 1/4, so a user u has σ = u / 2, and the mean 2.
    """
    content = ContentSpace({"text": torch.zeros(2)})
    profile = ContentProfile(
        torch.eye(2),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
        2 * torch.eye(2),
        torch.tensor([5.0]),
        torch.tensor([[0.25]]),
        torch.tensor([2.0]),
    )
    content_to_vectors = ContentToVectors(
        content, free=torch.tensor([0]), weights=torch.tensor([[0.1], [0.0]]), offset=torch.zeros(1), profile=profile
    )
    log = Interactions(np.array([0, 1, 1], np.int32), np.array([0, 1, 2], np.int32))
    scorer = Embeddings(torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    return Bundle(
        scorer, Vocabulary("AB", kind="user"), Vocabulary("xyz"), "XYZ", log, {}, content_to_vectors=content_to_vectors
    )


def test_tastes_by_content_are_for_new_items_alone(tmp_path: Path) -> None:
    """The new item's content is (0.6, 0.8), its model's column 0.06.

    A, 3, has (1, 0): 3 · 0.06 + 1.5 · (2 · 0.6 + 5) + 3 · 2.
    B, 4, has (0, 1) twice: 4 · 0.06 + 2 · (2 · 0.8 + 5) + 8.
    """
    bundle = with_profile()
    bundle.similar(["x"])  # what is made once for all items grows with them
    bundle.add_items([NewItem("new", features={"text": torch.tensor([3.0, 4.0])})])
    bundle.save_pretrained(tmp_path)
    for one in (bundle, Bundle.load(tmp_path)):
        scores = one.scorer.scores(torch.arange(2))
        torch.testing.assert_close(scores, torch.tensor([[3.0, 6.0, 9.0, 15.48], [4.0, 8.0, 12.0, 21.44]]))
        # words give 3 · 0.06 + 1.5 · 2 · 0.6; what any new item gets is the level and the mean
        assert one.explain("A", "new").shares == pytest.approx({"text": 1.98, "new": 13.5})
        assert one.explain("A", "z").shares == pytest.approx({"joint": 9.0})
        assert {item.item for item in one.similar(["new"], k=3)["new"]} == {"x", "y", "z"}


def test_shares_of_a_model_that_mixes_stay_beside_tastes_by_content() -> None:
    """z loses 1 of its 3 without its words: 3 · 1 of A's 9. What came later is told by where its vector comes from."""
    bundle = with_profile()
    bundle.lost = {"text": torch.tensor([[0.0], [0.0], [1.0]])}
    bundle.add_items([NewItem("new", features={"text": torch.tensor([3.0, 4.0])})])
    assert bundle.explain("A", "z").shares == pytest.approx({"rest": 6.0, "text": 3.0})
    assert bundle.explain("A", "new").shares == pytest.approx({"text": 1.98, "new": 13.5})


def test_a_bundle_made_before_there_were_tastes_takes_new_items(tmp_path: Path) -> None:
    """Its `bundle.json` says nothing of a profile: the new item has the model's column alone, 3 · 0.06."""
    before = with_profile()
    assert before.content_to_vectors is not None
    before.content_to_vectors = replace(before.content_to_vectors, profile=None)
    before.save_pretrained(tmp_path)
    told = read_json(tmp_path / "bundle.json")
    del told["newcomers"]["profile"]
    write_json(tmp_path / "bundle.json", told)
    bundle = Bundle.load(tmp_path)
    bundle.add_items([NewItem("new", features={"text": torch.tensor([3.0, 4.0])})])
    assert bundle.recommend(["A"], only=["new"])["A"][0].score == pytest.approx(0.18)


def test_a_user_s_content_profile_reads_new_items_too(tmp_path: Path) -> None:
    """A user with x, (1, 0), and the first new item, (0, 1), has length 3.5 in the model, as all have, so σ = 1.75.

    The second one: 3.5 · 0.06 + 1.75 · (2 · (0.6 + 0.8) / √2 + 5) + 3.5 · 2.
    """
    bundle = with_profile()
    bundle.add_items([NewItem("first", features={"text": torch.tensor([0.0, 1.0])})])
    bundle.add_items([NewItem("second", features={"text": torch.tensor([3.0, 4.0])})])
    bundle.save_pretrained(tmp_path)
    for one in (bundle, Bundle.load(tmp_path)):
        found = one.recommend_for(["x", "first"], only=["second"])
        assert found[0].score == pytest.approx(3.5 * 0.06 + 1.75 * (2 * 1.4 / 2**0.5 + 5) + 7, abs=1e-5)


def test_an_index_made_before_finds_new_items_by_tastes(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    with_profile().save_pretrained(tmp_path)
    bundle = Bundle.from_pretrained(tmp_path, index="hnsw")
    bundle.add_items([NewItem("new", features={"text": torch.tensor([3.0, 4.0])})])
    found = bundle.recommend(["A"], k=3)["A"]
    assert [(one.item, one.score) for one in found] == [("new", pytest.approx(15.48)), ("z", 9.0), ("y", 6.0)]


def test_popularity_alone_takes_new_items_by_taste() -> None:
    """The model ranks the same for all; each camp gets the new item that is similar to its own items."""
    graph, features, _, log = world()
    interactions = graph.item_degrees.float()[:, None]
    scorer = Embeddings(torch.ones(60, 1), interactions, parts={"bias": slice(0, 1)})
    content_to_vectors = fit_content_to_vectors(scorer, features, log)
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    bundle.add_items(newborn(features))
    for row in range(60):
        best = bundle.recommend([f"u{row}"], k=1, only=["new0", "new1", "new2"])[f"u{row}"][0]
        assert best.item == f"new{row // 20}"
    shares = bundle.explain("u0", "new0").shares
    assert shares.keys() == {"image", "text", "new"}
    assert content_to_vectors.profile is not None
    calibrated = interactions.mean() + content_to_vectors.profile.level * interactions.std(correction=0)
    assert shares["new"] == pytest.approx(float(calibrated), rel=1e-4)
    assert bundle.explain("u0", "i0").shares == {"bias": pytest.approx(float(interactions[0]))}


@pytest.mark.parametrize("normalize", [True, False])
def test_a_new_item_with_a_catalog_item_s_content_has_its_content_vector(normalize: bool) -> None:
    """VBPR's columns of content are its own map's, to the last bit; an item without an image has zeros there."""
    graph, _ = camps()
    features = camp_features(torch.Generator().manual_seed(0))
    features["image"][4] = 0.0
    model = VBPR(graph, features, torch.Generator().manual_seed(1), dim=4, content_dim=3, normalize=normalize)
    with torch.no_grad():
        scorer = model.embed(features)
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32))
    content_to_vectors = fit_content_to_vectors(scorer, features, log, model.content_projections())
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    bundle.add_items([NewItem(f"like{row}", features={m: x[row] for m, x in features.items()}) for row in (3, 4)])
    grown = bundle.scorer
    assert isinstance(grown, Embeddings)
    for part in ("image", "text"):
        columns = grown.parts[part]
        torch.testing.assert_close(grown.items[-2:, columns], scorer.items[[3, 4], columns], rtol=1e-5, atol=1e-6)
    assert not grown.items[-1, grown.parts["image"]].any()


def test_a_model_without_vectors_takes_what_is_alike() -> None:
    """The new item's row is its cosine (here one modality, uncentered by symmetry) to the nearest, times the scale."""
    similarity = torch.tensor([[0.0, 0.4], [0.4, 0.0]]).to_sparse_csr()
    scorer = Neighbors(torch.tensor([[1.0, 0.0]]).to_sparse_csr(), similarity)
    known = {"text": torch.tensor([[1.0, 0.0], [-1.0, 0.0]])}
    content_to_vectors = ContentToVectors(ContentSpace.of(known), neighbors=2, scale=3.0)
    row = content_to_vectors.vectors({"text": torch.tensor([[0.6, 0.8]])}, scorer, known)
    torch.testing.assert_close(row, torch.tensor([[1.8, 0.0]]))  # -0.6 to the other one counts as nothing


def test_neighbors_of_camps() -> None:
    _, features, _, log = world()
    seen = sp.csr_array((np.ones(len(log), np.float32), (log.users, log.items)))
    alike = (seen.T @ seen).toarray()
    np.fill_diagonal(alike, 0.0)
    dense = torch.from_numpy(seen.toarray())
    scorer = Neighbors(dense.to_sparse_csr(), torch.from_numpy(alike).to_sparse_csr())
    content_to_vectors = fit_content_to_vectors(scorer, features, log)
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    bundle.add_items(newborn(features))
    for row in (0, 25, 59):
        best = bundle.recommend([f"u{row}"], k=1, only=["new0", "new1", "new2"])[f"u{row}"][0]
        assert best.item == f"new{row // 20}"


def test_too_few_items_teach_nothing() -> None:
    _, features, scorer, _ = world()
    few = Interactions(np.zeros(9, np.int32), np.arange(9, dtype=np.int32))
    assert fit_content_to_vectors(scorer, features, few) is None


def test_items_that_cannot_be_added_are_refused_with_the_reason() -> None:
    _, features, scorer, log = world()
    content_to_vectors = fit_content_to_vectors(scorer, features, log)
    assert content_to_vectors is not None
    bundle = bundle_of(scorer, features, content_to_vectors, log)
    good = newborn(features)
    with pytest.raises(DataError, match="item 'i3' is there already"):
        bundle.add_items([good[0], good[1]._replace(id="i3")])
    assert "new0" not in bundle.items  # all or none
    with pytest.raises(DataError, match="item 'new0' is there already"):
        bundle.add_items([good[0], good[0]])
    with pytest.raises(DataError, match="need 8 numbers of 'image' features, got"):
        bundle.add_items([NewItem("n", features={"image": torch.ones(3), "text": torch.ones(11)})])
    with pytest.raises(DataError, match="item 'n' has no content that the model uses"):
        bundle.add_items([NewItem("n", features={"image": torch.zeros(8), "text": torch.zeros(11)})])
    with pytest.raises(DataError, match="1 of 2 new items come with features"):
        bundle.add_items([good[0], NewItem("n", {})])
    with pytest.raises(LMM4RecError, match="this bundle has no encoder"):
        bundle.add_items([NewItem("n")])
    with pytest.raises(LMM4RecError, match="it takes no new items: give its run an"):
        bundle_of(scorer, features, content_to_vectors, log).__class__(
            scorer, bundle.users, bundle.items, list(bundle.items), log, {}
        ).add_items(good)
