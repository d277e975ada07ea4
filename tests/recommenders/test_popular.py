from __future__ import annotations

import torch

from lmm4rec.recommenders.popular import Popular
from worlds import camps


def test_popular_ranks_all_users_by_the_items_interactions() -> None:
    graph, _ = camps()
    scores = Popular(graph, {}, torch.Generator()).embed({}).scores(torch.arange(graph.n_users))
    assert torch.equal(scores, graph.item_degrees.float().expand(graph.n_users, -1))
