"""`lmm4rec models`: what a conf file can name, and every key of it, read from the components themselves."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES, hyper_parameters
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.experiments.conf.keys import keys_of
from lmm4rec.experiments.conf.sections import PRECOMPUTED

_CITATION = re.compile(r"\(([A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+|,| (?=\d))[^()]*\d{4}[^()]*)\)")
_IDENTIFIER = re.compile(r"arXiv \d{4}\.\d{4,5}|doi \S+")
_PRECOMPUTED = {"gives": "what the files hold", "weights": "none: feature files, or those that came with the data"}


@dataclass(frozen=True)
class ListedComponent:
    """A component as a conf file names it."""

    kind: str
    name: str
    component: Callable[..., Any]
    plugin: str = ""  # the distribution that brings it; empty for those of lmm4rec

    @property
    def what(self) -> str:
        """A description in one line: the first of its module's docstring."""
        line = (inspect.getdoc(sys.modules[self.component.__module__]) or "").split("\n", 1)[0]
        title, colon, rest = line.partition(": ")
        own = colon and re.sub(r"\W", "", title).lower() == self.name.replace("_", "")
        return rest[0].upper() + rest[1:] if own else line

    @property
    def text(self) -> str:
        """Its docstring, without what only a caller from Python needs."""
        return (inspect.getdoc(self.component) or "").partition("\n\nRaises:")[0]

    @property
    def citation(self) -> str:
        """The paper as its docstring cites it, with authors and year; empty where there is none."""
        cited = _CITATION.search(" ".join(self.text.split()))
        return cited[1] if cited else ""

    @property
    def paper(self) -> str:
        """The paper's arXiv number, else its doi, else authors and year; empty where the docstring cites none."""
        found = _IDENTIFIER.search(self.citation)
        return found.group().rstrip(",.;") if found else self.citation

    @property
    def about(self) -> Mapping[str, str]:
        """Its vectors, weights and sizes, as the class states them."""
        if self.component is read_shipped:
            return _PRECOMPUTED
        return cast(Mapping[str, str], getattr(self.component, "about", {}))


def show_models(console: Console, name: str | None) -> None:
    """Print all that a conf file can name, or one of these with every key.

    Raises:
        ConfigError: nothing has that name.
    """
    known = list(entries(console if name is None else None))
    if name is None:
        console.print(_list("recommenders", known, "recommender"), _list("encoders", known, "encoder"))
        console.print(_list("data sources", known, "data source"))
        console.print("One in full, with type, default and range of each key:  lmm4rec models NAME")
        console.print("Your own: the import path package.module:Class in the place of a name, or an entry point.")
        return
    if ":" in name:
        _show(console, _by_path(name))
        return
    key = name.lower().replace("-", "_")
    named = [entry for entry in known if entry.name == key]
    if not named:
        names = [entry.name for entry in known]
        raise ConfigError(f"no model is called '{name}'.{did_you_mean(key, names)} There are: {', '.join(names)}")
    for entry in named:
        _show(console, entry)


def entries(console: Console | None = None) -> Iterator[ListedComponent]:
    """All recommenders, encoders and data sources that can be imported; the others are named on the console."""
    for registry in (RECOMMENDERS, ENCODERS, SOURCES):
        found = [ListedComponent(registry.kind, PRECOMPUTED, read_shipped)] if registry is ENCODERS else []
        for installed in registry.installed():
            try:
                component = registry.load(installed)
            except ConfigError as error:
                if console:
                    console.print(f"[yellow]not usable:[/] {escape(str(error))}")
                continue
            found.append(ListedComponent(registry.kind, installed.name, component, installed.plugin))
        yield from sorted(found, key=lambda entry: entry.name)


def _by_path(path: str) -> ListedComponent:
    """The component of an import path, of whichever kind it is."""
    errors = []
    for registry in (RECOMMENDERS, ENCODERS, SOURCES):
        try:
            return ListedComponent(registry.kind, path, registry.get(path), registry.find(path).plugin)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


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
        "keys": [f"[dim]{', '.join(hyper_parameters(entry.component))}[/]" for entry in rows],
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
    origin = f" · from {entry.plugin}" if entry.plugin else ""
    console.print(f"[bold]{entry.name}[/] · {entry.kind}{origin}\n\n{escape(entry.text)}\n")
    for label, value in entry.about.items():
        console.print(f"[bold]{label:12}[/]{escape(value)}")
    table = Table("key", "type", "default", "allowed", "meaning", box=box.SIMPLE_HEAD)
    for key in keys_of(entry.component):
        table.add_row(key.name, key.kind, *map(escape, (key.default, key.allowed, key.meaning)))
    console.print(table if table.row_count else "It has no keys.")
