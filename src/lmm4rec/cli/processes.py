"""A run in several processes on this machine, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lmm4rec.experiments.conf.spec import load_spec, parse_override
from lmm4rec.experiments.plan import make_plan


def run_in_processes(processes: int, conf: Path, settings: Sequence[str], out: Path | None, resume: bool) -> None:
    """`lmm4rec run --processes N`; ends with torchrun's exit status where that is an error.

    Each process takes its share of the cores unless OMP_NUM_THREADS says how many.

    Raises:
        ConfigError: the conf is wrong; told once, before any process starts.
    """
    make_plan(load_spec(conf, dict(parse_override(setting) for setting in settings)))
    arguments = ["run", str(conf), *(part for setting in settings for part in ("-s", setting))]
    arguments += ["-o", str(out)] if out else []
    arguments += ["--resume"] if resume else []
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // processes))}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "lmm4rec.cli.app", *arguments], env=threads | os.environ, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
