"""Live features: the gradient that reaches the encoder is the one that autograd finds on the whole table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from live_worlds import Scaled, TinyVectors, batches, generator, gradients, live, sampler, total, world
from torch import Tensor, nn

from fit_callbacks import KillAfter, KilledError
from lmm4rec.core.errors import ConfigError, TrainingError
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Batch
from lmm4rec.features.live import Live
from lmm4rec.nn.losses import contrastive
from lmm4rec.training.history import History
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.trainer import Trainer

MODELS = {name: RECOMMENDERS.get(name) for name in RECOMMENDERS.names()}
CONTENT = [name for name, model in MODELS.items() if model.uses_content and model.is_trained and model.trains_content]


def items_of(batch: Batch) -> Tensor:
    return torch.cat([batch.positives, batch.negatives.flatten()]).unique()


def on_whole_table(vectors: TinyVectors, table: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
    """Every item encoded, but only the given ones take their place in the table."""
    chosen = torch.zeros(vectors.n_items, dtype=torch.bool)
    chosen[items] = True
    return {m: torch.where(chosen[:, None], x, table[m]) for m, x in vectors.all().items()}


@pytest.mark.long
@pytest.mark.parametrize("name", CONTENT)
def test_the_gradient_of_a_batch_is_that_of_the_whole_table_for_its_items(name: str) -> None:
    """For every recommender, those that carry content over graphs too."""
    vectors = TinyVectors()
    recommender, graph = world(RECOMMENDERS.get(name), vectors)
    source = live(vectors)
    batch = next(batches(graph, 5))
    table = {m: x.clone() for m, x in source().items()}
    with torch.no_grad():
        for weights in vectors.maps.values():
            weights.mul_(1.3)  # the table is older than the encoder
    recommender.begin_epoch(table, generator(2))
    noise = generator(4)
    torch.randint(2**62, (), generator=noise)  # the pass through the encoder draws its seed first
    total(recommender.losses(batch, on_whole_table(vectors, table, items_of(batch)), noise)).backward()
    expected = gradients(vectors), gradients(recommender)
    vectors.zero_grad()
    recommender.zero_grad()
    recommender.begin_epoch(table, generator(2))
    source.begin_epoch(1)
    noise = generator(4)
    objective = RankingObjective(recommender, source, batches=1)
    total(objective.losses(batch, noise)).backward()
    assert expected[0]
    for mine, theirs in zip((gradients(vectors), gradients(recommender)), expected, strict=True):
        # some weights' gradients cancel to 0: the largest one tells what rounding is
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * largest)
    assert vectors.passes[-1][0] == len(items_of(batch))


def by_hand(every: int, steps: int) -> tuple[TinyVectors, Any]:
    """Deferred training in plain autograd: a leaf table in between, the gradient of earlier steps as one more term."""
    vectors = TinyVectors()
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    table = {m: x.detach() for m, x in vectors.all().items()}
    fast = torch.optim.Adam(recommender.parameters(), lr=0.02, fused=True)
    slow = torch.optim.Adam([*vectors.maps.values()], lr=0.01, fused=True)
    accumulated, met = {m: torch.zeros_like(x) for m, x in table.items()}, set[int]()
    recommender.begin_epoch(table, generator())
    noise = generator()
    for step, batch in enumerate(sampler(graph).epoch(noise), start=1):
        if step > steps:
            break
        now = items_of(batch)
        met |= set(now.tolist())
        rows = torch.tensor(sorted(met))
        ends = step % every == 0
        if ends:
            torch.randint(2**62, (), generator=noise)  # a pass through the encoder draws its seed
        features = on_whole_table(vectors, table, rows) if ends else {m: x.requires_grad_() for m, x in table.items()}
        loss = total(recommender.losses(batch, features, generator(9)))
        if ends:
            loss = loss + sum((accumulated[m] * x).sum() for m, x in vectors.all().items())
        fast.zero_grad()
        slow.zero_grad()
        loss.backward()
        for m, x in table.items():
            if not ends:
                accumulated[m][now] += x.grad[now]
                x.grad = None
        fast.step()
        if ends:
            slow.step()
            table = {m: x.detach().clone() for m, x in features.items()}
            accumulated, met = {m: torch.zeros_like(x) for m, x in table.items()}, set()
        table = {m: x.detach() for m, x in table.items()}
    return vectors, recommender


@pytest.mark.parametrize("every", [1, 2])
def test_passes_now_and_then_are_what_autograd_gives_by_hand(every: int) -> None:
    """every = 1 is the live scheme; 4 batches make an epoch."""
    expected, its_recommender = by_hand(every, 4)
    vectors = TinyVectors()
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    objective = RankingObjective(
        recommender, live(vectors, every=every), batches=4, encoder_schedule=LearningRateSchedule(learning_rate=0.01)
    )
    assert len(sampler(graph)) == 4
    Trainer(epochs=1, learning_rate=0.02, metric="loss", device="cpu").fit(objective, sampler(graph), dict)
    torch.testing.assert_close(dict(vectors.maps), dict(expected.maps), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(recommender.state_dict(), its_recommender.state_dict(), rtol=1e-4, atol=1e-6)
    assert len(vectors.passes) - 2 == 4 / every + 1  # two looks at the start, and one for the probe of memory


def fit(
    vectors: TinyVectors, *, epochs: int = 3, state: Path | None = None, callbacks: Any = (), **options: Any
) -> tuple[History, RankingObjective]:
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    batches_ = sampler(graph)
    objective = RankingObjective(
        recommender,
        live(vectors, **options),
        batches=len(batches_),
        encoder_schedule=LearningRateSchedule(learning_rate=0.01),
    )
    scores: list[float] = []

    def validate() -> dict[str, float]:
        objective.source.refresh()
        with torch.inference_mode():
            values = recommender.embed(objective.source()).scores(torch.arange(3))
        scores.append(float(values.std()))
        return {"score": -abs(float(values.std()) - 1e-3)}  # an early epoch is the best

    trainer = Trainer(epochs=epochs, learning_rate=0.02, metric="score", checkpoint_every_s=0.0, device="cpu")
    history = trainer.fit(objective, batches_, validate, state_file=state, callbacks=callbacks)
    return history, objective


def test_matrices_of_the_encoder_decay_and_nothing_else() -> None:
    """Two groups of one name where there is weight decay, the one group of before where there is none."""
    vectors = TinyVectors()
    vectors.register_parameter("bias", nn.Parameter(torch.zeros(3)))
    recommender, _ = world(RECOMMENDERS.get("vbpr"), vectors)
    groups = {
        decay: RankingObjective(
            recommender,
            live(vectors),
            batches=4,
            encoder_schedule=LearningRateSchedule(learning_rate=0.01, weight_decay=decay),
        ).groups()
        for decay in (0.0, 0.1)
    }
    (one,) = groups[0.0]
    assert (len(one.parameters), one.schedule.weight_decay) == (len(list(vectors.parameters())), 0.0)
    assert {group.name for group in groups[0.1]} == {"encoder"}
    decayed = {weight: group.schedule.weight_decay for group in groups[0.1] for weight in group.parameters}
    assert {name: decayed[weight] for name, weight in vectors.named_parameters()} == {
        "maps.image": 0.1,
        "maps.text": 0.1,
        "log": 0.0,
        "bias": 0.0,
    }


def test_an_encoder_changes_in_training_and_not_a_bit_before() -> None:
    still, moved = TinyVectors(), TinyVectors()
    before = {name: weight.clone() for name, weight in still.state_dict().items()}
    history, _ = fit(still, warm_start=3)
    assert all(torch.equal(weight, before[name]) for name, weight in still.state_dict().items())
    assert all(row["encoded"] == row["refreshed"] == 0 for row in history.rows)
    assert all(row["learning_rate.encoder"] == 0 for row in history.rows)
    fit(moved, epochs=1)
    assert all(not torch.equal(moved.maps[m], before[f"maps.{m}"]) for m in moved.maps)


def test_as_long_as_it_warms_up_it_is_the_frozen_paradigm() -> None:
    from lmm4rec.features.source import Frozen

    vectors = TinyVectors()
    _, objective = fit(vectors, warm_start=3)
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    frozen = RankingObjective(recommender, Frozen(objective.source()))
    Trainer(epochs=1, learning_rate=0.02, metric="loss", device="cpu").fit(frozen, sampler(graph), dict)
    _, once = fit(TinyVectors(), warm_start=1, epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(recommender.parameters(), once.recommender.parameters(), strict=True))


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "encoded"),
    [({"max_items": 7}, 28), ({"every": 2, "max_items": 7}, 14), ({"every": "epoch"}, 30), ({"every": 3}, 59)],
)
def test_encodings_are_bounded_and_counted(options: dict[str, Any], encoded: int) -> None:
    """Four batches, each of which meets all 30 items, but for one that the last batch alone leaves out."""
    vectors = TinyVectors()
    history, _ = fit(vectors, **options)
    with_gradient = sum(count for count, _, grad in vectors.passes[1:] if grad) - 8  # the probe of memory takes 8
    assert [row["encoded"] for row in history.rows] == [encoded] * 3
    assert with_gradient == 3 * encoded
    assert [row["refreshed"] for row in history.rows] == [30] * 3  # before each validation; then nothing is stale


def test_no_pass_without_gradient_is_in_training_mode_and_the_modes_come_back() -> None:
    vectors = TinyVectors(dropout=0.5)
    _, objective = fit(vectors)
    assert all(training == grad for _, training, grad in vectors.passes)
    objective.train()
    objective.source.stale.fill_(value=True)
    objective.source.refresh(final=True)
    assert vectors.training
    assert vectors.dropout.training


@pytest.mark.long
@pytest.mark.parametrize("validate_on", ["fresh", "table"])
def test_what_is_ranked_in_the_end_is_of_the_best_weights(validate_on: str) -> None:
    vectors = TinyVectors()
    history, objective = fit(vectors, validate_on=validate_on, max_items=5)
    assert history.best_epoch < 3
    objective.source.refresh(final=True)
    for modality, rows in vectors.all().items():
        torch.testing.assert_close(objective.source()[modality], rows.detach())
    with torch.inference_mode():
        scores = objective.recommender.embed(objective.source()).scores(torch.arange(3))
    if validate_on == "fresh":
        assert -abs(float(scores.std()) - 1e-3) == pytest.approx(history.best, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "killed_after"),
    [
        ({}, 2),
        ({"every": 3, "max_items": 11}, 1),
        ({"every": "epoch", "warm_start": 2}, 1),
        ({"every": "epoch", "warm_start": 2}, 3),
        ({"validate_on": "table", "refresh_every": 2}, 4),
    ],
)
def test_killed_and_resumed_it_ends_with_the_same_numbers(
    tmp_path: Path, options: dict[str, Any], killed_after: int
) -> None:
    expected, whole = fit(TinyVectors(dropout=0.3), epochs=5, **options)

    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        fit(TinyVectors(dropout=0.3), epochs=5, state=state, callbacks=[KillAfter(killed_after)], **options)
    history, resumed = fit(TinyVectors(dropout=0.3), epochs=5, state=state, **options)
    assert history.rows == expected.rows
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_images_and_texts_of_a_pass_are_drawn_together() -> None:
    vectors = Scaled()
    recommender, graph = world(RECOMMENDERS.get("vbpr"), vectors)
    source = live(vectors, alignment_weight=0.5)
    source.begin_epoch(1)
    batch = next(batches(graph, 5))
    losses = RankingObjective(recommender, source, batches=1).losses(batch, generator())
    image, text = vectors(items_of(batch)).values()
    unit = [x / x.norm(dim=1, keepdim=True) for x in (image, text)]
    assert losses["alignment"].item() == pytest.approx(0.5 * contrastive(*unit, torch.ones(())).item(), rel=1e-5)
    losses["alignment"].backward()
    assert vectors.log.grad is not None
    with pytest.raises(ConfigError, match=r"alignment_weight = 0\.5 needs image and text in one space"):
        live(TinyVectors(), alignment_weight=0.5)


def test_a_recommender_that_ignores_content_is_named_after_one_epoch() -> None:
    vectors = TinyVectors()
    recommender, graph = world(RECOMMENDERS.get("bpr"), vectors)
    objective = RankingObjective(
        recommender, live(vectors), batches=len(sampler(graph)), encoder_schedule=LearningRateSchedule()
    )
    trainer = Trainer(epochs=9, metric="loss", device="cpu")
    with pytest.raises(TrainingError, match="no gradient has come back to the features in a whole epoch"):
        trainer.fit(objective, sampler(graph), dict)


@pytest.mark.long
@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("options", [{}, {"every": "epoch"}])
def test_every_recommender_trains_an_encoder(name: str, options: dict[str, Any]) -> None:
    vectors = TinyVectors()
    before = {m: weights.detach().clone() for m, weights in vectors.maps.items()}
    recommender, graph = world(RECOMMENDERS.get(name), vectors)
    objective = RankingObjective(
        recommender,
        live(vectors, **options),
        batches=len(sampler(graph)),
        encoder_schedule=LearningRateSchedule(learning_rate=0.01),
    )
    trainer = Trainer(epochs=2, learning_rate=0.02, metric="loss", device="cpu")
    trainer.fit(objective, sampler(graph), dict)
    assert all(not torch.equal(weights, before[m]) for m, weights in vectors.maps.items())
    assert all(weights.isfinite().all() for weights in objective.parameters())


def test_features_of_another_width_are_refused() -> None:
    vectors = TinyVectors()
    features = {"image": torch.zeros(30, 9)}
    with pytest.raises(ConfigError, match=r"the features have image \(30, 9\)"):
        Live(vectors, features)


def test_a_step_needs_to_know_where_the_epoch_ends() -> None:
    source: Callable[..., Any] = live(TinyVectors())
    with pytest.raises(TrainingError, match="begin_epoch with the number of batches"):
        source(torch.arange(3), generator()) if source.begin_epoch(0) is None else None


@pytest.mark.long
def test_bfloat16_stays_within_a_hundredth_of_float32() -> None:
    """8 bits of a number: vectors near 1 are off by 1/256 at most, the losses by less than a hundredth."""
    exact, _ = fit(TinyVectors())
    low, objective = fit(TinyVectors(), precision="bfloat16")
    for one, other in zip(exact.rows, low.rows, strict=True):
        assert one["loss"] != other["loss"]
        assert other["loss"] == pytest.approx(one["loss"], rel=0.01)
    assert all(rows.dtype == torch.float32 for rows in objective.source().values())
