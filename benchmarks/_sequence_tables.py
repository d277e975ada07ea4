"""The models of sequences in docs/results.md: beside RecTools, and by ids and content on the films by time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _race_tables import untuned
from _tables import table


def films_by_time(values: Mapping[str, Any]) -> str:
    """What the study of sequences found."""
    told = (
        "SASRec and GRU4Rec by ids, by the text of a MiniLM and by posters, beside a Markov chain, EASE, LightGCN and "
        "LATTICE, with settings that nobody tuned. Every item competes, and significance is as in the race "
        "(`lmm4rec study conf/studies/sequential.conf`, `python benchmarks/race.py runs/sequential sequential`)."
    )
    return untuned(told, values, dict.fromkeys(values["data"], len(values["missing"])))


def beside_rectools(values: Mapping[str, Any]) -> str:
    """Our SASRec and RecTools' after the same number of steps."""
    rows = []
    for loss, row in values["losses"].items():
        for side in ("ours", "theirs"):
            cells = [
                f"{row[metric][side]:.4f} ± {row[metric][f'spread_{side}']:.4f}" for metric in ("recall@20", "ndcg@20")
            ]
            who = "ours" if side == "ours" else row["package"]
            rows.append([loss, who, *cells, f"{row['epoch_cpu_seconds'][side]:.2f}"])
    log = values["log"]
    words = (
        f"Our SASRec beside RecTools' on the films ({log['users']} users, {log['interactions']:,} interactions, the "
        f"latest 51 of each user; each user's last item is the test), {values['epochs']} epochs from three seeds each, "
        "the same sequences, settings and number of steps, item vectors times the root of their width in both; seconds "
        "of one thread's processor an epoch ([decision 37](decisions/0037-sequences.md), `python "
        "benchmarks/sequences.py`)."
    )
    return f"{words}\n\n{table(['loss', 'SASRec', 'Recall@20', 'NDCG@20', 's an epoch'], rows)}"
