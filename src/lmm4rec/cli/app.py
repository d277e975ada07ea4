"""The command `lmm4rec`: its groups of commands, logging, and errors as messages."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmm4rec.cli.bundles import bundles
from lmm4rec.cli.console import errors, escaped
from lmm4rec.cli.data import data, doctor
from lmm4rec.cli.features import features
from lmm4rec.cli.finetune import finetune
from lmm4rec.cli.interactions import interactions
from lmm4rec.cli.nights import nights
from lmm4rec.cli.recommend import recommend
from lmm4rec.cli.runs import runs
from lmm4rec.cli.studies import studies
from lmm4rec.core.errors import LMM4RecError, ProcessLostError, memory_error
from lmm4rec.core.files import storage_error
from lmm4rec.distributed.launched import LOST, end_with_launcher, is_launched


class _Once(logging.Filter):
    """A filter that passes the same note or warning once: several steps of a command find the same things."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        text = record.getMessage()
        if record.levelno < logging.WARNING and not text.startswith(("note:", "warning:")):
            return True
        is_new = text not in self.passed
        self.passed.add(text)
        return is_new


def _abandon_bars() -> None:
    if "lmm4rec.core.progress" in sys.modules:  # else there are none
        from lmm4rec.core.progress import abandon_bars

        abandon_bars()


_AGAIN = {
    "run": "; add --resume to go on",
    "study": "; add --resume to go on",
    "serve": "",
    "refresh": "; yesterday's bundle stays, and the same command begins the night anew",
}


# of the commands that take ids or texts, what stands behind RUN where one of these looks like an option
_AFTER_DASHES = {"recommend": "-5", "similar": "-5", "explain": "-5 -7", "search": "-5"}


def _add_dashes(error: Exception, command: str) -> None:
    """Add to the error of an id that was read as an option how to write it; typer's classes have no public names."""
    name, example = getattr(error, "option_name", None), _AFTER_DASHES.get(command)
    is_misspelled = getattr(error, "possibilities", None)
    is_known = not hasattr(error, "possibilities")  # but lacks its value
    if name is None or example is None or is_misspelled or (is_known and name.startswith("--")):
        return
    said = error.message.rstrip(".")  # type: ignore[attr-defined]
    advice = f"An id or text that begins with '-' stands last, after --: lmm4rec {command} RUN -- {example}"
    error.message = f"{said}. {advice}"  # type: ignore[attr-defined]


class _Group(TyperGroup):
    """The commands, with an interruption as a message; typer would end without one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the arguments."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            _add_dashes(error, ctx.invoked_subcommand or "")
            raise
        except KeyboardInterrupt as error:
            _abandon_bars()
            again = _AGAIN.get(ctx.invoked_subcommand or "", "; the same command continues")
            reason = f"; {error}" if str(error) else ""
            errors.print(f"interrupted{reason}{again}", soft_wrap=True)
            raise typer.Exit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"lmm4rec {version('lmm4rec')} (Python {python}, torch {version('torch')})")  # noqa: T201
        raise typer.Exit


app = typer.Typer(
    name="lmm4rec",
    cls=_Group,
    help="Multi-modal recommendation with large multi-modal encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options that stand before any command."""


for group in (runs, doctor, features, finetune, recommend, bundles, interactions, nights, studies):
    app.add_typer(group)
app.add_typer(data, name="data")


def _without_path(error: Exception) -> LMM4RecError | None:
    """An error of a full disk that names no file."""
    found = storage_error(error, Path("a file of this command"))
    return found if found and "cannot be written" in str(found) else None


def _is_broken_pipe(error: Exception) -> bool:
    """Whether the reader of standard output has had enough, such as `head`; polars names the error's number only."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and "os error 32" in str(error))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error that the user can correct is one message, not a traceback."""
    first = os.environ.get("RANK", "0") == "0"  # of several processes, the first one prints
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    filters = [(handler, _Once()) for handler in logging.getLogger().handlers]
    for handler, once in filters:
        handler.addFilter(once)
    for library in ("httpx", "urllib3", "transformers", "sentence_transformers", "matplotlib", "faiss"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # it shows one for every file read and written
    with suppress(FileNotFoundError):  # where the working directory is gone
        sys.path.append(str(Path.cwd()))  # components by import path; last, so that nothing installed is shadowed
    try:
        app(arguments, prog_name="lmm4rec")
    except Exception as error:
        if _is_broken_pipe(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
            sys.exit(128 + signal.SIGPIPE)
        if isinstance(error, ProcessLostError) and is_launched():
            sys.exit(LOST)  # the launcher reports the one that ended
        known = error if isinstance(error, LMM4RecError) else storage_error(error) or _without_path(error)
        known = known or memory_error(error)
        if known is None:
            raise
        _abandon_bars()
        notes = getattr(error, "__notes__", [])
        message = " ".join([str(known), *(f"({note})" for note in notes)])
        errors.print(f"[bold red]error:[/] {escaped(message)}", soft_wrap=True)
        sys.exit(2)
    finally:
        for handler, once in filters:  # of a program that calls this one
            handler.removeFilter(once)


if __name__ == "__main__":  # as which several processes are started
    end_with_launcher()
    main()
