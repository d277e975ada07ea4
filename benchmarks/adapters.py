"""What an epoch of end-to-end training costs under each adapter: seconds and peak memory, each in its own process.

    python benchmarks/adapters.py                                # CLIP, VLMo, BEiT-3 of base size, random weights
    python benchmarks/adapters.py clip --adapters frozen none side --items 128
    python benchmarks/adapters.py --tiny --items 64              # tiny encoders, to try it

VBPR trains on a drawn log over so many items, their images and texts drawn, too. An epoch is the median step times
the steps of an epoch, and one refresh of all vectors. At most `max_items` pass through what trains in a step, the same
for all. Caches of `last` and `side` are filled in a process before, which is timed apart (`fill_seconds`): it is done
once in all runs. Peak memory is that of the training process from when all is set up, with the encoder's weights where
these are needed. Targets: a `side` epoch takes at most 1/20 of a full one ("none") and at most 3 times a frozen one, a
`last` one (2 of 12 blocks) at most 0.3 of a full one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

from _results import HERE, write
from lmm4rec.core.device import choose_device
from lmm4rec.core.files import read_json

ENCODERS = ("clip", "vlmo", "beit3")
ADAPTERS = ("frozen", "side", "last", "lora", "none")
TARGETS = {"side_to_full": 1 / 20, "side_to_frozen": 3.0, "last_to_full": 0.3}


def measured(encoder: str, adapter: str, options: dict[str, Any]) -> dict[str, Any]:
    """One process's figures."""
    command = [sys.executable, str(HERE / "_adapter_step.py"), encoder, adapter, json.dumps(options)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if answer.returncode:
        raise SystemExit(f"{encoder} with {adapter} failed:\n{answer.stderr[-3000:]}")
    values: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return values


def compared(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios that have a target, and every adapter's memory beside that of training all."""
    pairs = {"side_to_full": ("side", "none"), "side_to_frozen": ("side", "frozen"), "last_to_full": ("last", "none")}
    ratios: dict[str, Any] = {}
    for name, (one, other) in pairs.items():
        if one in rows and other in rows:
            ratio = rows[one]["epoch_seconds"] / rows[other]["epoch_seconds"]
            ratios[name] = {"ratio": round(ratio, 4), "target": TARGETS[name], "target_met": ratio <= TARGETS[name]}
    if "none" in rows:
        full = rows["none"]
        memory = "peak_gpu_memory_mb" if "peak_gpu_memory_mb" in full else "peak_memory_mb"
        ratios["memory_to_full"] = {name: round(row[memory] / full[memory], 3) for name, row in rows.items()}
        ratios["seconds_to_full"] = {
            name: round(row["epoch_seconds"] / full["epoch_seconds"], 4) for name, row in rows.items()
        }
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=list(ENCODERS), help=f"of {', '.join(ENCODERS)}")
    parser.add_argument("--adapters", nargs="*", default=list(ADAPTERS), choices=ADAPTERS)
    parser.add_argument("--tiny", action="store_true", help="tiny encoders, results not written")
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--users", type=int, default=2048)
    parser.add_argument("--each", type=int, default=8, help="items that each user likes")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--batches", type=int, default=3, help="steps measured, after one that is not")
    parser.add_argument("--max-items", type=int, default=64, help="with gradient in a step; 0: all that are met")
    parser.add_argument("--encode-batch", type=int, default=32, help="items at once when a cache is filled")
    parser.add_argument("--blocks", type=int, default=2, help="of last")
    parser.add_argument("--rank", type=int, default=8, help="of lora")
    parser.add_argument("--dim", type=int, default=64, help="of side")
    parser.add_argument("--stride", type=int, default=2, help="of side")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    options = {key: value for key, value in vars(arguments).items() if key not in ("encoders", "adapters")}
    options["device"] = str(choose_device(arguments.device))
    if arguments.tiny:
        options["blocks"] = 1
    path = HERE / "results" / "adapters.json"
    values: dict[str, Any] = {}
    if path.exists() and not arguments.tiny:
        values = read_json(path)["values"]  # rows not measured now stay
    values["targets"], values["settings"] = TARGETS, options
    for encoder in arguments.encoders:
        with tempfile.TemporaryDirectory() as cache:
            known = {key: row for key, row in values.get(encoder, {}).items() if key in ADAPTERS}
            rows = known | measure_all(encoder, arguments.adapters, options | {"cache": cache})
        values[encoder] = rows | {"compared": compared(rows)}
        print(json.dumps({encoder: values[encoder]["compared"]}, indent=2))
    if not arguments.tiny:
        write("adapters", values)


def measure_all(encoder: str, adapters: list[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of each adapter, caches filled before."""
    rows = {}
    for adapter in adapters:
        filled = {}
        if adapter in ("last", "side"):
            filled = measured(encoder, adapter, options | {"fill_only": True})
        rows[adapter] = measured(encoder, adapter, options) | filled
        print(f"{encoder} {adapter}: {rows[adapter]['epoch_seconds']:.3f} s an epoch", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main()
