"""What a GPU gives: one command of at most 8 minutes on a machine with one NVIDIA GPU, its results in one JSON file.

    python benchmarks/gpu.py                                   # all sections; writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --minutes 4 --only models,ranking --out FOLDER/gpu.json
    python benchmarks/gpu.py --tiny                            # toy sizes on the CPU, to try it

Sections: `peak` measures large matrix products, of which all shares are taken; it always runs. `tests` runs the tests
marked `gpu`. `extraction` encodes JPEG files and texts with CLIP ViT-B/16, VLMo base plus and BEiT-3 base, random
weights of full size (target: half of the peak), `training` trains them end to end with VBPR (target: .35 of it).
`decoding` decodes images in as many processes as extraction starts. `models` trains on Baby's size with features of
4,096 and 384 numbers, `ranking` ranks all items for all users.

Each section is a process of its own with a share of the time. What it has measured is kept where it fails or runs out
of time, with the error, and the file is written after each section. Nothing is downloaded. It needs lmm4rec installed
with the extra `transformers`, or its requirements and PYTHONPATH=src, and for `tests` pytest and pytest-timeout.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from _gpu_device import Options, Section, Values
from _results import HERE, save
from lmm4rec.core.files import read_json, write_json

SHARES = {  # of the time; what a section leaves over goes to those after it
    "peak": 0.06, "tests": 0.2, "extraction": 0.26, "decoding": 0.1, "training": 0.18, "models": 0.15, "ranking": 0.05,
}  # fmt: skip
MODULES = {"peak": "device", "tests": "tests", "models": "models", "ranking": "models"}  # the others: encoders
RESERVE_S = 5.0  # for starting, ending and writing


def run_section(name: str, arguments: argparse.Namespace) -> None:
    """Measure one section in this process; its values are written each time that it has more."""
    section: Callable[[Options], Section] = getattr(import_module(f"_gpu_{MODULES.get(name, 'encoders')}"), name)
    known: Values = read_json(arguments.known)
    values: Values = {}
    with tempfile.TemporaryDirectory() as folder:
        for some in section(Options(arguments.tiny, arguments.seconds, Path(folder), known)):
            values |= some
            write_json(arguments.values, values)


def measured(name: str, seconds: float, known: Values, folder: Path, *, tiny: bool) -> Values:
    """The values of a section in a process of its own, which is ended when its time is over."""
    known_file, values_file, log = (folder / f"{name}.{kind}" for kind in ("known.json", "json", "log"))
    write_json(known_file, known)
    command = [sys.executable, __file__, "--section", name, "--seconds", str(seconds)]
    command += ["--known", str(known_file), "--values", str(values_file), *(["--tiny"] if tiny else [])]
    began, error = time.monotonic(), ""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=HERE, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(timeout=seconds)
            error = f"exit status {code}:\n{_end_of(log)}" if code else ""
        except subprocess.TimeoutExpired:
            error = f"ended after its {seconds:.0f} s:\n{_end_of(log)}"
        finally:
            _end_session(process)
    values: Values = read_json(values_file) if values_file.exists() else {}
    return {**values, **({"error": error} if error else {}), "section_seconds": time.monotonic() - began}


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started, such as workers."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def measure_all(names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of all sections; they are written after each one."""
    deadline = time.monotonic() + 60 * arguments.minutes - RESERVE_S
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            share = SHARES[name] / sum(SHARES[later] for later in names[number:])
            seconds = max(1.0, share * (deadline - time.monotonic()))
            values[name] = measured(name, seconds, values, Path(folder), tiny=arguments.tiny)
            if arguments.out is not None:
                save("gpu", {"tiny": arguments.tiny, "minutes": arguments.minutes, **values}, arguments.out)
            print(json.dumps({name: values[name]}, indent=2), flush=True)
    return values


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of all sections together, at most")
    parser.add_argument("--only", default=",".join(SHARES), help="sections, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to try it")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.json, with --tiny none")
    for internal, kind in (("section", str), ("seconds", float), ("known", Path), ("values", Path)):
        parser.add_argument(f"--{internal}", type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(SHARES):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SHARES)}")
    if arguments.out is None and not arguments.tiny:
        arguments.out = HERE / "results" / "gpu.json"
    return arguments


def main() -> None:
    arguments = parsed()
    if arguments.section:
        run_section(arguments.section, arguments)
    elif arguments.tiny or torch.cuda.is_available():
        chosen = {"peak", *arguments.only.split(",")}
        measure_all([name for name in SHARES if name in chosen], arguments)
        print(f"written to {arguments.out}" if arguments.out else "nothing is written without --out")
    else:
        print(
            "There is no GPU here; `python benchmarks/gpu.py --tiny` tries the same sections at toy sizes on the CPU."
        )


if __name__ == "__main__":
    main()
