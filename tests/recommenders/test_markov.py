"""The Markov chain beside a case computed by hand."""

from __future__ import annotations

import numpy as np
import torch

from lmm4rec.core.sequences import Sequences
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.transitions import Transitions
from lmm4rec.recommenders.markov import Markov

HISTORIES = [[0, 1, 2], [3, 1, 2], [2, 1, 0], []]
SHARES = np.array([2, 3, 3, 1, 0]) / 9  # of all interactions


def chain(smoothing: float) -> Transitions:
    users = torch.tensor([user for user, items in enumerate(HISTORIES) for _ in items])
    items = torch.tensor([item for history in HISTORIES for item in history])
    graph = InteractionGraph(users, items, len(HISTORIES), 5, in_order=True)
    return Markov(graph, {}, torch.Generator(), smoothing=smoothing).embed({})


def test_scores_are_smoothed_shares_of_the_transitions_from_the_last_item() -> None:
    scores = chain(0.5).scores(torch.arange(4)).numpy()
    after_2 = (np.array([0, 1, 0, 0, 0]) + 0.5 * SHARES) / (1 + 0.5)  # 2 -> 1, once
    after_0 = (np.array([0, 1, 0, 0, 0]) + 0.5 * SHARES) / (1 + 0.5)  # 0 -> 1, once
    np.testing.assert_allclose(scores, [after_2, after_2, after_0, SHARES], atol=1e-6)


def test_any_sequences_are_scored_by_their_last_items() -> None:
    scorer = chain(0.5).of_sequences(Sequences.of_lists([np.array([3, 0, 1]), np.array([4])]))
    after_1 = (np.array([1, 0, 2, 0, 0]) + 0.5 * SHARES) / (3 + 0.5)  # 1 -> 2 twice, 1 -> 0 once
    np.testing.assert_allclose(scorer.scores(torch.arange(2)).numpy(), [after_1, SHARES], atol=1e-6)
