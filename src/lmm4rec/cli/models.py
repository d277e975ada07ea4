"""`lmm4rec models`: what a conf file can name, and every key of it, read from the components themselves."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmm4rec.cli.components import ListedComponent, by_import_path, describe, listed
from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES

_KINDS = (RECOMMENDERS, ENCODERS, SOURCES)


def show_models(console: Console, name: str | None) -> None:
    """Print all that a conf file can name, or one of these with every key.

    Raises:
        ConfigError: nothing has that name.
    """
    if name is None:
        known = list(entries(console))
        console.print(_list("recommenders", known, "recommender"), _list("encoders", known, "encoder"))
        console.print(_list("data sources", known, "data source"))
        console.print("One in full, with type, default and range of each key:  lmm4rec models NAME")
        console.print("Your own: the import path package.module:Class in the place of a name, or an entry point.")
        return
    if ":" in name:
        _show(console, by_import_path(name))
        return
    key = name.lower().replace("-", "_")
    installed = [(registry, one) for registry in _KINDS for one in listed(registry)]
    named = [describe(registry, one) for registry, one in installed if one.name == key]
    if not named:
        names = [one.name for _, one in installed]
        raise ConfigError(f"no model is called '{name}'.{did_you_mean(key, names)} There are: {', '.join(names)}")
    for entry in named:
        _show(console, entry)


def entries(console: Console | None = None) -> Iterator[ListedComponent]:
    """All recommenders, encoders and data sources that can be imported; the others are named on the console."""
    for registry in _KINDS:
        for installed in listed(registry):
            try:
                yield describe(registry, installed)
            except ConfigError as error:
                if console:
                    console.print(f"[yellow]not usable:[/] {escape(str(error))}")


def _list(title: str, known: list[ListedComponent], kind: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", expand=True)
    table.add_column("name", no_wrap=True, style="bold")
    rows = [entry for entry in known if entry.kind == kind]
    abouts = [entry.about for entry in rows]
    columns = {
        "what it is": [_both(entry.what, entry.paper) for entry in rows],
        "gives": [escape(about.get("gives", "")) for about in abouts],
        "weights, full sizes": [
            _both(about.get("weights", ""), _lines(about.get("parameters", ""))) for about in abouts
        ],
        "keys": [f"[dim]{', '.join(entry.keys)}[/]" for entry in rows],
    }
    shown = {header: cells for header, cells in columns.items() if any(cells)}
    for header in shown:
        table.add_column(header, ratio=2 if header in ("gives", "keys") and len(shown) > 2 else 3)
    for entry, *cells in zip(rows, *shown.values(), strict=True):
        table.add_row(_both(entry.name, entry.plugin), *cells, end_section=kind == "encoder")
    return table


def _both(first: str, second: str) -> str:
    return escape(first) + (f"\n[dim]{escape(second)}[/]" if second else "")


def _lines(text: str) -> str:
    return text.replace("; ", "\n")


def _show(console: Console, entry: ListedComponent) -> None:
    from lmm4rec.experiments.conf.keys import keys_of

    origin = f" · from {entry.plugin}" if entry.plugin else ""
    console.print(f"[bold]{entry.name}[/] · {entry.kind}{origin}\n\n{escape(entry.text)}\n")
    for label, value in entry.about.items():
        console.print(f"[bold]{label:12}[/]{escape(value)}")
    table = Table("key", "type", "default", "allowed", "meaning", box=box.SIMPLE_HEAD)
    for key in keys_of(entry.component):
        table.add_row(key.name, key.kind, *map(escape, (key.default, key.allowed, key.meaning)))
    console.print(table if table.row_count else "It has no keys.")
