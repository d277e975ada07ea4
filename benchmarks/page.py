"""Writes docs/results.md from the JSON files in `results`: run it after the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from _cold_table import cold_items
from _paradigm_tables import adapters, encodings, processes
from _quality_figure import draw
from _race_tables import draw_race, graph_models, race, verdicts
from _results import HERE
from _sequence_tables import beside_rectools, films_by_time
from _shop_tables import feedback, five_nights, warm_start
from _speed_tables import SPEEDS, beside_toolbox, single_steps, speed, time_to_quality
from _tables import table, wrapped
from lmm4rec.core.files import read_json, write_text

PAGE = HERE.parent / "docs" / "results.md"
WORLDS = {
    "films": "4,957 films with posters and texts, 5-core, random 8:1:1, protocol `strict`",
    "mmrec-films": "The films in the MMRec layout, split and features given, protocol `mmrec`",
    "mmrec-tiktok": "TikTok in the MMRec layout, split and features given, protocol `mmrec`",
    "films-encoders": "The same films: VBPR in one setting over tiny encoders that were tuned on the films' own pairs",
}
HEAD = """---
hide:
  - navigation
---

# Results

This page is written by `python benchmarks/page.py` from the files in `benchmarks/results`, which
hold machine, commit and all figures. Validation chooses each setting from a small grid under one
seed; the test part is read once in a run.
"""


def spread(values: Mapping[str, float]) -> str:
    return f"{values['mean']:.4f}" + (f" ± {values['spread']:.4f}" if "spread" in values else "")


def plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def quality(world: str, values: Mapping[str, Any]) -> str:
    head = ["model", "Recall@20", "NDCG@20", "seeds", "chosen by validation"]
    rows = []
    for name, row in values.items():
        setting = ", ".join(f"{key.removeprefix('train.')} {plain(value)}" for key, value in row["setting"].items())
        rows.append([name, spread(row["recall@20"]), spread(row["ndcg@20"]), str(row["seeds"]), setting or "–"])
    return f"{WORLDS[world]} (`python benchmarks/quality.py {world}`).\n\n{table(head, rows)}"


def peers(data: str, values: Mapping[str, Any]) -> str:
    head = [
        "library",
        "epochs",
        "s an epoch",
        "Recall@20",
        "our s an epoch",
        "ratio",
        "our epochs",
        "ratio to its recall",
    ]
    rows, skipped = [], []
    for name, row in values["peers"].items():
        if "skipped" in row:
            skipped.append(f"{name}: {row['skipped']}")
            continue
        reached = [str(row["our_epochs"]), f"{row['ratio_at_equal_quality']:.2f}"] if "our_epochs" in row else ["–"] * 2
        times = [f"{row['epoch_seconds']:.2f}", f"{row['recall@20']:.4f}", f"{row['our_epoch_seconds']:.2f}"]
        rows.append([f"{name} ({row['package']})", str(row["epochs"]), *times, f"{row['epoch_ratio']:.2f}", *reached])
    words = (
        f"{SPEEDS[data]}: ours beside libraries that can be installed, in one run on {values['threads']} threads; "
        "the last two columns are what ours takes until its recall@20 on the validation part is the library's "
        f"(`python benchmarks/peers.py --data {data}`)."
    )
    return f"{words}\n\n{table(head, rows)}" + "".join(f"\n\nSkipped: {line}." for line in skipped)


def electronics(values: Mapping[str, Any]) -> str:
    head = ["model", "s an epoch on Baby", "at the size of Electronics", "times", "triples a batch", "GiB in training"]
    rows = [
        [
            name,
            *(f"{row[key]['epoch_seconds_extrapolated']:.1f}" for key in ("baby", "electronics")),
            f"{row['epoch_ratio']:.1f}",
            f"{row['electronics']['batch_size']:,}",
            f"{row['electronics']['peak_memory_in_training_mb'] / 1024:.1f}",
        ]
        for name, row in values["models"].items()
    ]
    words = (
        "An epoch on Baby (119,674 interactions in training) and at the size of Amazon Electronics (200,000 users, "
        "63,000 items, 1.36 million interactions, synthetic), in batches of the default size ([decision "
        "9](decisions/0009-batches-grow.md)), extrapolated from some batches; LightGCN has one layer, and "
        "memory counts 1.4 GiB of data and features (`python benchmarks/speed.py --electronics`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def batches(values: Mapping[str, Any]) -> str:
    settings = next(iter(values["models"].values()))
    rows = [[name, *(spread(row[title]) for title in settings)] for name, row in values["models"].items()]
    words = (
        f"Amazon {values['data'].title()}, test Recall@20 of {values['seeds']} seeds by triples a batch: what larger "
        "batches cost (`python benchmarks/batches.py`)."
    )
    return f"{words}\n\n{table(['model', *settings], rows)}"


def encoding(values: Mapping[str, Any]) -> str:
    head = ["encoder of base size", "precision", "items", "bare items/s", "whole items/s", "whole / bare"]
    rows = [
        [
            name,
            precision,
            str(row["items"]),
            f"{row['bare_items_per_s']:.1f}",
            f"{row['whole_items_per_s']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for name, encoder in values.items()
        if isinstance(encoder, dict)
        for precision, row in encoder.items()
        if isinstance(row, dict)
    ]
    words = (
        "Images of 500 × 375 pixels in files, with texts. Bare: the model alone, on "
        "the same tensors. Whole: read, decode, tokenize, encode and store (`python benchmarks/encoding.py`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def feature_store(values: Mapping[str, Any]) -> str:
    milliseconds = 1000 * values["open"]["seconds"]
    return (
        f"{values['items']:,} items × {values['dim']}: opened memory-mapped in {milliseconds:.1f} ms "
        "(`python benchmarks/feature_store.py`)."
    )


def ranking(values: Mapping[str, Any]) -> str:
    ratio = values["ratio_to_bare_kernels"]["metrics"]
    return (
        f"Full ranking of {values['users']:,} users × {values['items']:,} items at dim {values['dim']}, "
        f"{values['metrics']} metrics: {values['users_per_second']:,.0f} users a second, {ratio:.2f} times the bare "
        "product and selection of the same run (`python benchmarks/ranking.py`)."
    )


def service(values: Mapping[str, Any]) -> str:
    head = ["", "requests a second", "p50 ms", "p99 ms", "errors"]
    rows = [
        [words, f"{row['requests_per_s']:,.0f}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", str(row["errors"])]
        for words, row in (
            ("as fast as answers come", values["most"]),
            ("500 a second asked", values["paced"]),
            (f"500 a second asked, for {values['soak']['seconds']:.0f} s", values["soak"]),
        )
    ]
    words = (
        f"`lmm4rec serve` with {values['items']:,} items × {values['dim']}, one process, {values['connections']} "
        f"connections on the same machine; memory grew by {values['soak']['growth_mb']:.2f} MB "
        "(`python benchmarks/service.py --soak 300`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def search(values: Mapping[str, Any]) -> str:
    head = ["", "build s", "MB", "p50 ms", "p99 ms", "recall@10", "filtered p50 ms"]
    rows = []
    for name in ("exact", "hnsw", "ivf"):
        row, latency = values[name], values[name]["latency"]
        built = [f"{row['build_s']:.0f}", f"{row['memory_mb']:,}"] if "build_s" in row else ["–", "–"]
        times = [f"{latency['p50_ms']:.2f}", f"{latency['p99_ms']:.2f}", f"{latency.get('recall@10', 1):.3f}"]
        rows.append([name, *built, *times, f"{row['filtered']['p50_ms']:.1f}"])
    command = f"python benchmarks/search.py --users={values['queries']}"
    words = f"{values['items']:,} items × {values['dim']}, one query at a time (`{command}`)."
    return f"{words}\n\n{table(head, rows)}"


def rules(values: Mapping[str, Any]) -> str:
    head = ["", "p50 ms", "p99 ms", "by rules: p50 ms", "p99 ms", "and new filters: p50 ms", "p99 ms"]
    rows = [
        [
            words,
            *(f"{values[way][what][at]:.1f}" for what in ("plain", "named", "filters") for at in ("p50_ms", "p99_ms")),
        ]
        for way, words in (("bundle", "from Python"), ("http", "over HTTP"))
    ]
    words = (
        f"Lists of {values['k']} among {values['items']:,} items × {values['dim']} with filters, a boost, two caps, "
        f"fresh items and MMR; one caller, two cores (`python benchmarks/rules.py`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def mmr(values: Mapping[str, Any]) -> str:
    head = ["MMR", "λ", "Recall@20", "NDCG@20", "distance by genres", "by content", "share of films in some list"]
    rows = [
        [label, f"{point['lambda']:g}", f"{point['recall@20']:.4f}", f"{point['ndcg@20']:.4f}"]
        + [f"{point[name]:.3f}" for name in ("diversity by genres", "diversity by content", "coverage")]
        for label, points in values["curves"].items()
        for point in points
        if point["lambda"] in (0.0, 0.3, 0.5, 0.7, 0.9)
    ]
    words = (
        f"The rule `diversity` on films: {values['users']} users' lists of {values['k']}, with the mean distance of "
        f"two films of a list (`python benchmarks/diversity.py`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def data_scale(values: Mapping[str, Any]) -> str:
    return (
        f"{values['rows']:,} interactions in Parquet read, 5-cored and split: {values['seconds']['total']} s, "
        f"{values['peak_memory_mb']:,.0f} MB (`python benchmarks/data_scale.py`)."
    )


def amazon_scale(values: Mapping[str, Any]) -> str:
    early, packed = values["early"], values["files"]["reviews_mb"]
    return (
        f"{values['rows']:,} synthetic reviews in the layout of Amazon 2023 ({packed:,.0f} MB of gzip), read as a "
        f"stream, 5-cored on the way: {early['seconds']['total']:.0f} s, at most {early['peak_memory_mb']:,.0f} MB; "
        f"{early['after']['interactions']:,} interactions are left (`python benchmarks/amazon_scale.py`)."
    )


def race_figure(values: Mapping[str, Any]) -> str:
    """The race in a figure, as the line that shows it."""
    draw_race(values["data"], PAGE.parent / "images" / "race.png")
    words = "Recall of every model as a share of EASE's, with intervals; blue: models that use content"
    return f"![{words}](images/race.png)"


def quality_figure(films: Mapping[str, Any]) -> str:
    """Quality and cost of the models of the earlier grids in a figure, as the line that shows it."""
    tiktok, speeds = (
        read_json(HERE / "results" / f"{name}.json")["values"] for name in ("quality_mmrec-tiktok", "speed_baby")
    )
    milliseconds = {name: row["milliseconds_a_batch"] for name, row in speeds["models"].items()}
    draw({"Films": films, "TikTok": tiktok}, milliseconds, PAGE.parent / "images" / "quality.png")
    words = "Recall of every model on films and TikTok, and what a batch costs; gray: models that use no content"
    return f"![{words}](images/quality.png)"


def significance(values: Mapping[str, Any]) -> str:
    """How often two identical designs differ significantly."""
    rows = [
        [str(row["users"]), f"{row['spread']:g}", str(row["seeds"]), f"{row['before']:.3f}", f"{row['after']:.3f}"]
        for row in values["false_stars"]
        if row["kind"] == "identical"
    ]
    words = (
        f"Share of {values['simulations']:,} simulated comparisons of two identical designs that get a star at .05: by "
        "a paired test over users after averaging the seeds, and by the error over users and seeds that reports use "
        "([decision 25](decisions/0025-seeds-in-the-error.md), `python benchmarks/significance.py`)."
    )
    return f"{words}\n\n{table(['users', 'spread of seeds', 'seeds', 'users alone', 'users and seeds'], rows)}"


def main() -> None:
    parts: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = []
    parts += [("The race", "race", write) for write in (verdicts, race_figure, race)]
    parts += [("Graph models", "graphs", graph_models)]
    parts += [("Sequences", "sequential", films_by_time), ("Sequences", "sequences", beside_rectools)]
    parts += [("Significance", "significance", significance)]
    parts += [("Earlier grids", "quality_mmrec-films", quality_figure)]
    parts += [("Earlier grids", f"quality_{world}", partial(quality, world)) for world in WORLDS]
    parts += [("Training speed", f"speed_{data}", partial(speed, data)) for data in SPEEDS]
    parts += [("Training speed", f"peers_{data}", partial(peers, data)) for data in SPEEDS]
    parts += [("Training speed", "toolbox_baby", beside_toolbox)]
    parts += [("Training speed", "time_to_quality_films", partial(time_to_quality, "Films"))]
    parts += [("Training speed", "single_steps", single_steps)]
    parts += [("Growth", "speed_electronics", electronics), ("Growth", "batches", batches)]
    parts += [("Features", "encoding", encoding), ("Features", "feature_store", feature_store)]
    parts += [("Paradigms", "adapters", adapters), ("Paradigms", "processes", processes)]
    parts += [("Paradigms", name, encodings) for name in ("paradigms", "paradigms_films")]
    parts += [("Ranking and data", "ranking", ranking), ("Ranking and data", "data_scale", data_scale)]
    parts += [("Ranking and data", "amazon_scale", amazon_scale)]
    parts += [("Serving", "service", service), ("Serving", "search", search)]
    parts += [("Serving", "rules", rules), ("Serving", "diversity", mmr)]
    parts += [("Serving", "feedback_1", feedback)]
    parts += [("Each night", "five_nights", five_nights), ("Each night", "warm_start", warm_start)]
    parts += [
        ("New items", f"cold_items_{world}", partial(cold_items, title))
        for world, title in (("films", "Films"), ("toyshop", "Toy shop"))
    ]
    text, section = HEAD, ""
    for title, name, write in parts:
        path = HERE / "results" / f"{name}.json"
        if not path.exists():
            continue
        text += f"\n## {title}\n" if title != section else ""
        section = title
        text += "\n" + wrapped(write(read_json(path)["values"])) + "\n"
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
