"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lmm4rec.cli import completion
from lmm4rec.core.errors import ConfigError

if TYPE_CHECKING:
    from lmm4rec.distributed.pool import Pool
    from lmm4rec.experiments.plan import Plan

Settings = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key, e.g. -s train.epochs=5.")
]


def local_path(text: str) -> Path:
    """The path of a file or folder of this machine.

    Raises:
        ConfigError: it is an address of an object store, of which Path would make a folder `s3:`.
    """
    from lmm4rec.data.buckets import is_remote

    if is_remote(text):
        raise ConfigError(f"this command reads and writes files of this machine, not {text}: copy them")
    return Path(text)


def trained_model(text: str) -> Path:
    """The folder of a trained model; of one in an object store, the copy on this machine."""
    from lmm4rec.data.buckets import is_remote
    from lmm4rec.serving.bundle_source import source_folder

    return source_folder(text) if is_remote(text) else Path(text)


Conf = Annotated[
    Path,
    typer.Argument(metavar="CONF", help="A .conf file (TOML).", autocompletion=completion.confs, parser=local_path),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="DIR", help="The run folder (default: runs/NAME).", parser=local_path),
]
RemoteOut = Annotated[
    str, typer.Option("-o", "--out", metavar="DIR", help="The folder (default: runs/NAME), or s3://, gs://, az://.")
]
RunsFolder = Annotated[
    Path, typer.Option("-o", "--out", metavar="DIR", help="The folder for the runs.", parser=local_path)
]
TrainedModel = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, or a bundle; also s3://, gs://, az://.",
        autocompletion=completion.trained,
        parser=trained_model,
    ),
]
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate passes, time, memory and disk without doing the work.")
]


def overrides(settings: Sequence[str] | None) -> dict[str, Any]:
    """The -s options as dotted keys and values."""
    from lmm4rec.experiments.conf.spec import parse_override

    return dict(parse_override(setting) for setting in settings or ())


def plan_of(conf: Path, settings: Sequence[str] | None, more: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a conf file with the -s options, and `more` dotted keys above these."""
    from lmm4rec.experiments.conf.spec import load_spec
    from lmm4rec.experiments.plan import make_plan

    return make_plan(load_spec(conf, {**overrides(settings), **(more or {})}))


Processes = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, help="Train in N processes (GPUs, or shares of the cores).")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that share the work; 0: this one alone.")]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Work on a Ray cluster: auto, host:port, ray://host:port; local:3 simulates three nodes here.",
    ),
]


@contextmanager
def requested_pool(
    workers: int, cluster: str, *, shared: Sequence[Path] = (), gpus: float | Literal["auto"] = "auto"
) -> Iterator[Pool | None]:
    """The pool that --workers and --cluster ask for; None where neither does. Local processes share the cores."""
    from lmm4rec.core.device import cores
    from lmm4rec.distributed.pool import WorkerOptions, open_pool

    if not workers and not cluster:
        yield None
        return
    threads = 1 if cluster else max(1, cores() // workers)
    with open_pool(workers, cluster, WorkerOptions(threads, gpus, shared=tuple(shared))) as pool:
        yield pool
