"""The command `recommend`: lists for users by id, for those of a file, or for all."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lmm4rec.cli.console import console, escaped, note
from lmm4rec.cli.options import Cluster, Count, TrainedModel, Workers, local_path, requested_pool
from lmm4rec.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

    from lmm4rec.serving.bundle import Bundle

recommend = typer.Typer(rich_markup_mode="rich")

_PRINTED = 100  # users whose lists are printed at most
_NAMED = 10  # unknown users


@recommend.command("recommend", rich_help_panel="Use a trained model")
def recommend_command(
    run: TrainedModel,
    users: Annotated[
        list[str] | None, typer.Argument(metavar="[USER...]", help="User ids; those that begin with '-' after --.")
    ] = None,
    k: Count = 10,
    everyone: Annotated[bool, typer.Option("--all", help="For all users; needs --out.")] = False,
    users_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For the users of a file: an id a line, or a table; -: standard input.",
            parser=local_path,
        ),
    ] = None,
    users_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of the user ids in --users-file.")
    ] = None,
    history: Annotated[
        str,
        typer.Option(
            metavar="ITEM,ITEM",
            help="For an unknown user with this history, latest item last; an id with a comma in quotes.",
        ),
    ] = "",
    only: Annotated[str, typer.Option(metavar="ITEM,ITEM", help="Recommend only items of this list.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER", help='Only items that pass, such as "price<=50"; also =, !=, <, >, >=, ~ (contains).'
        ),
    ] = None,
    rules: Annotated[
        str, typer.Option(metavar="FILE[:NAME]", help="Re-rank by a rule set of a TOML file; see the docs.")
    ] = "",
    columns: Annotated[
        str, typer.Option("--with", metavar="NAME,NAME", help="Columns of the catalog to add to the output.")
    ] = "",
    all_columns: Annotated[bool, typer.Option("--with-catalog", help="Add all columns of the catalog.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write a .csv, .jsonl or .parquet file; -: CSV to stdout.",
            parser=local_path,
        ),
    ] = None,
    seen_too: Annotated[bool, typer.Option("--seen-too", help="Also items of the user's history.")] = False,
    workers: Workers = 0,
    cluster: Cluster = "",
    item_ranges: Annotated[
        int, typer.Option(min=1, metavar="N", help="A worker holds the vectors of an N-th of the items at a time.")
    ] = 1,
) -> None:
    """Recommend items to users."""
    from lmm4rec.cli.recommendation_files import require_file
    from lmm4rec.cli.rule_files import read_rules
    from lmm4rec.serving.bundle import Bundle
    from lmm4rec.serving.recommendation_lists import ListRequest, RecommendationLists

    if sum([bool(users), everyone, bool(history), users_file is not None]) != 1:
        raise ConfigError(
            "say for whom: user ids (those that begin with '-' after --), --all, --users-file FILE, or --history "
            "ITEM,ITEM for an unknown user"
        )
    if users_column is not None and users_file is None:
        raise ConfigError("--users-column names a column of --users-file, which is not given")
    if rules and (history or only or seen_too):
        raise ConfigError("--rules goes with neither --history, --only nor --seen-too")
    if item_ranges > 1 and (out is None or rules or not (workers or cluster)):
        raise ConfigError(
            "--item-ranges is for lists that workers write to a file: it goes with --out and --workers or --cluster, "
            "and not with --rules"
        )
    if out is not None:
        require_file(out)
    rule_set = read_rules(rules, where or []) if rules else None
    bundle = Bundle.load(run)
    if rule_set is not None and not bundle.check_rules(rule_set):
        raise DataError(f"no item passes the filters of the rule set {rules}: {'; '.join(rule_set.words())}")
    request = ListRequest(
        run.resolve(),
        at_most_the_catalog(k, bundle),
        only=tuple(ids_of(only)) or None,
        where=tuple(where or ()),
        seen_too=seen_too,
        rules=rule_set,
        columns=None if all_columns else tuple(ids_of(columns)),
        item_ranges=item_ranges,
    )
    lists = RecommendationLists(bundle, request)
    if history:
        frame = lists.for_history(ids_of(history))
        _print(frame) if out is None else _write(iter([frame]), out, "history")
        return
    ids = list(bundle.users) if everyone else _known(bundle, users or [], users_file, users_column)
    if out is None and (everyone or len(ids) > _PRINTED):
        what = "--all is" if everyone else "these are"
        raise ConfigError(f"{what} {len(ids):,} lists: name a file for them with --out (-: CSV to standard output)")
    if out is None:
        for frame in lists.for_users(ids):
            _print(frame)
            _note_empty(bundle, set(ids) - set(frame["user"]), "" if rules else " (--seen-too shows these too)")
        return
    with requested_pool(workers, cluster, gpus=0.0) as pool:
        _write(lists.for_users(ids, pool), out, "user")


def _known(bundle: Bundle, users: Sequence[str], file: Path | None, column: str | None) -> list[str]:
    """The users that the bundle knows, each once; unknown ones are counted and named in a note.

    Raises:
        DataError: it knows none of them.
    """
    from lmm4rec.cli.user_files import read_users
    from lmm4rec.data.findings import agreeing

    given = list(users) if file is None else read_users(file, column, bundle.users)
    ids = list(dict.fromkeys(given))
    if len(ids) < len(given):
        repeated = len(given) - len(ids)
        note(f"{repeated:,} of {len(given):,} user ids {agreeing(repeated, 'are')} repeated; each gets one list")
    unknown = [id_ for id_ in ids if id_ not in bundle.users]
    if len(unknown) == len(ids):
        bundle.users.row(unknown[0])  # raises the error that names the nearest id
    if unknown:
        named = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
        count = len(unknown)
        verbs = agreeing(count, "are"), agreeing(count, "get")
        note(f"{count:,} of {len(ids):,} users {verbs[0]} unknown and {verbs[1]} no list: {named}")
    gone = set(unknown)
    return [id_ for id_ in ids if id_ not in gone] if gone else ids


def _write(frames: Iterator[pl.DataFrame], out: Path, whom: str) -> None:
    """Write the lists in the format of the file's suffix."""
    from lmm4rec.cli.recommendation_files import STDOUT, appended

    rows = lists = 0
    with appended(out) as append:
        for frame in frames:
            append(frame if whom == "user" else frame.rename({"user": whom}))
            rows, lists = rows + frame.height, lists + frame["user"].n_unique()
    if out != STDOUT:
        plural = "histories" if whom == "history" and lists != 1 else whom + "s" * (lists != 1)
        console.print(f"wrote {out}: {rows:,} recommendations for {lists:,} {plural}", soft_wrap=True)


def _print(frame: pl.DataFrame) -> None:
    """Print the lists, a table for each."""
    from lmm4rec.serving.recommendation_lists import OWN

    for (user,), rows in frame.group_by("user", maintain_order=True):
        more = [name for name in frame.columns if name not in OWN]
        table = Table(
            "", "item", "title", "score", *map(escaped, more), title=escaped(f"for {user}"), title_justify="left"
        )
        for row in rows.iter_rows(named=True):
            cells = ("" if row[name] is None else escaped(row[name]) for name in more)
            table.add_row(str(row["rank"]), escaped(row["item"]), escaped(row["title"]), f"{row['score']:.3f}", *cells)
        console.print(table)


def _note_empty(bundle: Bundle, users: Collection[str], hint: str) -> None:
    """Say of users without a list why they have none."""
    for user in sorted(users):
        items, what = len(bundle.items), "all items that may be recommended, or disliked them"
        if len({one.item for one in bundle.history(user)} & set(bundle.items)) == items:
            what = f"all {items:,} items" if items > 1 else "the only item"
        note(f"user '{user}' has interacted with {what}: nothing is left to recommend{hint}")


def ids_of(text: str) -> list[str]:
    """The ids (or names) of a list that is separated by commas; one that has a comma is in double quotes, as in CSV."""
    return [part.strip() for row in csv.reader([text], skipinitialspace=True) for part in row if part.strip()]


def at_most_the_catalog(k: int, bundle: Bundle) -> int:
    """The number of items to show, with a note where the catalog has fewer than `k`."""
    count = len(bundle.items)
    if k > count:
        note(f"k = {k:,}, but the catalog has {count:,} items; lists have no more")
    return min(k, count)
