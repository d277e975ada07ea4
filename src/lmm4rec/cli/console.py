"""The console that commands print to, and what several of them print."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

# a log file has no width of its own; 80 columns would break the tables
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=120)


_notes = Console(highlight=False, stderr=True)


def note(message: str) -> None:
    """Print a note to standard error, where it does not mix with output for another program."""
    _notes.print(f"note: {escaped(message)}", soft_wrap=True)


def escaped(text: object) -> str:
    """A text that is printed as it is: square brackets are not markup."""
    return str(text).replace("[", r"\[")


def print_facts(facts: Mapping[str, str], title: str) -> None:
    """Print names and values as a table."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)
