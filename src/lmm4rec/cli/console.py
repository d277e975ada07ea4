"""The console that commands print to, and what several of them print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# a log file has no width of its own, and 80 columns would break the tables; `:x:` in a title is no emoji
_is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where standard output is closed
console = Console(highlight=False, emoji=False, width=None if _is_terminal else 120)
errors = Console(highlight=False, emoji=False, stderr=True)


def note(message: str) -> None:
    """Print a note to standard error, where it does not mix with output for another program."""
    errors.print(f"note: {escaped(message)}", soft_wrap=True)


def escaped(text: object) -> str:
    """A text that is printed as it is: square brackets are not markup."""
    return escape(str(text))


def quoted(*words: object) -> str:
    """Words of a command line, for printing: those with spaces and the like are quoted."""
    return escaped(shlex.join(map(str, words)))


def print_facts(facts: Mapping[str, str], title: str) -> None:
    """Print names and values as a table."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)
