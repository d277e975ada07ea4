"""Commands of a shop that runs on: refresh (the night job), compare-bundles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lmm4rec.cli.console import console, escaped, note
from lmm4rec.cli.options import Cluster, Conf, Settings, TrainedModel, Workers, local_path, overrides, requested_pool

if TYPE_CHECKING:
    import polars as pl

    from lmm4rec.experiments.night.record import NightRecord
    from lmm4rec.serving.bundle import Bundle
    from lmm4rec.serving.comparison_results import BundleComparison

nights = typer.Typer(rich_markup_mode="rich")

_PANEL = "Use a trained model"


@nights.command("refresh", rich_help_panel=_PANEL)
def refresh_command(
    conf: Conf,
    live: Annotated[
        Path, typer.Option("--live", metavar="DIR", help="The live folder that is served.", parser=local_path)
    ],
    settings: Settings = None,
    tolerance: Annotated[
        float, typer.Option(min=0, metavar="SHARE", help="How much worse is not worse, of yesterday's value.")
    ] = 0.02,
    measured: Annotated[
        float, typer.Option(min=0.01, max=0.99, metavar="SHARE", help="Of the new interactions, those measured on.")
    ] = 0.4,
    least_users: Annotated[
        int, typer.Option(min=0, metavar="N", help="Fewest users with measured interactions for a decision.")
    ] = 30,
    keep: Annotated[int, typer.Option(min=2, metavar="N", help="Nights that are kept.")] = 7,
    rate: Annotated[
        float, typer.Option(min=1e-6, metavar="SHARE", help="Learning rate of a warm training, of the conf's.")
    ] = 1.0,
    cold: Annotated[bool, typer.Option("--cold", help="Train from nothing, not from yesterday's weights.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where rows or columns are gone, and swap where too little is new.")
    ] = False,
    workers: Workers = 0,
    cluster: Cluster = "",
) -> None:
    """Retrain warm on today's data, compare with yesterday's bundle, and serve the new one unless it is worse."""
    from lmm4rec.experiments.night.refresh import RefreshOptions, refresh
    from lmm4rec.features.store import FeatureStore
    from lmm4rec.training.interruption import sigterm_as_interrupt

    options = RefreshOptions(
        tolerance=tolerance, measured=measured, least_users=least_users, keep=keep, rate=rate, cold=cold, force=force
    )
    with sigterm_as_interrupt(), requested_pool(workers, cluster, shared=FeatureStore().shared) as pool:
        record = refresh(conf, live, overrides(settings), options, pool=pool)
    console.print(_record_table(record))
    console.print(f"log      {live / 'nights.jsonl'}", soft_wrap=True)


@nights.command("compare-bundles", rich_help_panel=_PANEL)
def compare_bundles_command(
    before: TrainedModel,
    after: TrainedModel,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists.")] = 20,
    recent: Annotated[
        Path | None,
        typer.Option(
            "--recent", metavar="FILE", help="A table of interactions that neither was trained on.", parser=local_path
        ),
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of user ids in it (default: user_id or user).")
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of item ids in it (default: item_id or item).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the result as JSON.", parser=local_path)
    ] = None,
) -> None:
    """Compare the lists of two bundles: overlap, items that gain or lose, and the users who gain."""
    from lmm4rec.core.files import write_json
    from lmm4rec.data.findings import agreeing
    from lmm4rec.data.sources._log import clean_log, usual_id_column
    from lmm4rec.data.table_files import read_table
    from lmm4rec.serving.bundle import Bundle
    from lmm4rec.serving.bundle_comparison import compare_bundles

    bundles = [Bundle.load(one) for one in (before, after)]
    log = None
    if recent is not None:
        table = read_table(recent, "interactions")
        users, items = user_column or usual_id_column(table, "user"), item_column or usual_id_column(table, "item")
        log = clean_log(table, users, items, None, None).frame
        for bundle, folder in zip(bundles, (before, after), strict=True):
            if known := _known(log, bundle):
                note(
                    f"{known:,} of the {log.height:,} interactions {agreeing(known, 'are')} in the data of {folder}: "
                    "was it trained on them?"
                )
    comparison = compare_bundles(bundles[0], bundles[1], k, recent=log)
    _print_comparison(comparison)
    if out is not None:
        write_json(out, comparison.to_json())
        console.print(f"wrote {out}", soft_wrap=True)


def _record_table(record: NightRecord) -> Table:
    """What a night did, as names and values."""
    table = Table(title=f"{record.night}: {record.decision}", show_header=False, title_justify="left")
    table.add_row("why", escaped(record.why))
    for name, counts in record.rows.items():
        table.add_row(name, ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items()))
    if record.left_out:
        items = ", ".join(f"{count:,} of '{item}'" for item, count in record.left_out.items())
        table.add_row("left out", escaped(f"posted interactions with items that the catalog lacks: {items}"))
    if record.comparison is not None:
        overlap = record.comparison["overlap"]
        table.add_row(
            "lists",
            f"{overlap['overlap']:.0%} of a list stay; {overlap['first_changed']:.0%} of the first items change",
        )
    table.add_row("seconds", ", ".join(f"{name} {seconds:,.1f}" for name, seconds in record.seconds.items()))
    table.add_row("serving", f"nights/{record.serving}/final/bundle")
    return table


def _known(log: pl.DataFrame, bundle: Bundle) -> int:
    """The number of interactions that a bundle has in its users' histories."""
    import numpy as np

    chosen = [user in bundle.users and item in bundle.items for user, item in log.select("user", "item").rows()]
    at = log.filter(chosen)
    n = len(bundle.catalog)
    pairs = bundle.users.rows(at["user"]) * n + bundle.catalog.rows(at["item"])
    return int(np.isin(pairs, bundle.seen.pairs(n)).sum())


def _print_comparison(comparison: BundleComparison) -> None:
    overlap = comparison.overlap
    facts = Table(title=f"lists of {comparison.k}", show_header=False, title_justify="left")
    for name, counts in (("users", comparison.users), ("items", comparison.items)):
        facts.add_row(
            name, f"{counts.both:,} in both, {counts.only_before:,} only before, {counts.only_after:,} only after"
        )
    facts.add_row("items in both lists", f"{overlap.overlap:.1%} (Jaccard {overlap.jaccard:.3f})")
    facts.add_row("rank-biased overlap", f"{overlap.rank_biased:.3f}")
    facts.add_row("lists that differ", f"{overlap.changed:.1%}; in the first item {overlap.first_changed:.1%}")
    console.print(facts)
    moved = Table("item", "title", "before", "after", title="the share of the lists with an item", title_justify="left")
    for item in (*comparison.gaining, *reversed(comparison.losing)):
        moved.add_row(escaped(item.item), escaped(item.title[:60]), f"{item.before:.1%}", f"{item.after:.1%}")
    console.print(moved)
    if (recent := comparison.recent) is None:
        return
    title = f"{recent.metric} on {recent.interactions:,} recent interactions"
    table = Table("", "users", "before", "after", "difference", title=title, title_justify="left")
    rows = {
        "users that both know": recent.all_items,
        "the same, items that both know": recent.common_items,
        "users that only the later knows": recent.new_users,
        **{f"{name} interactions": measured for name, measured in recent.by_activity.items()},
    }
    for name, one in rows.items():
        if one.users:
            values = f"{one.before:.4f}", f"{one.after:.4f}", f"{one.difference:+.4f} ± {_or_dash(one.standard_error)}"
            table.add_row(name, f"{one.users:,}", *values)
    table.caption = f"better for {recent.better:,} users, worse for {recent.worse:,}"
    console.print(table)


def _or_dash(value: float) -> str:
    """A number, or a dash where it cannot be computed."""
    return "–" if math.isnan(value) else f"{value:.4f}"
