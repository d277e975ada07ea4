"""Functions run by several processes that form a group."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore


def in_group(processes: int, function: Callable[..., None], *arguments: Any, timeout_s: float = 200.0) -> None:
    """Call a function of a test module, with arguments that JSON can hold, in each process of a group."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    module = sys.modules[function.__module__]
    paths = [str(Path(str(module.__file__)).parent), str(Path(__file__).parent), *sys.path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    script = f"""
import json, sys
from lmm4rec.distributed import process_group
from {Path(str(module.__file__)).stem} import {function.__name__}
with process_group.initialized():
    {function.__name__}(*json.loads(sys.argv[1]))
"""
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    running = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    try:
        assert [process.wait(timeout=timeout_s) for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()
