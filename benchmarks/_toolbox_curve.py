"""One training of the MMRec toolbox, run in its folder `src` by a Python that has its requirements.

    cd TOOLBOX/src && PYTHON /path/to/benchmarks/_toolbox_curve.py MODEL DATA SETTINGS SEED [VALIDATIONS]

It prints one JSON object and imports nothing of lmm4rec. It ends by early stopping, or after that many validations.
Seconds count from the building of the model, without those of ranking the test part, which the toolbox does after each
validation.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any


def main(model: str, data: str, settings: dict[str, Any], seed: int, validations: int = 0) -> dict[str, Any]:
    sys.path.insert(0, str(Path.cwd()))
    torch, configurator, dataset, loader, utils = map(
        importlib.import_module,
        ("torch", "utils.configurator", "utils.dataset", "utils.dataloader", "utils.utils"),
    )
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    config = configurator.Config(model, data, {"gpu_id": 0, "use_gpu": False})
    for key in config["hyper_parameters"]:
        values = config[key]
        config[key] = values[0] if isinstance(values, list) and key != "learning_rate_scheduler" else values
    for key, value in settings.items():
        config[key] = value
    config["seed"], config["device"] = seed, torch.device("cpu")
    if validations:
        config["epochs"] = validations
    logging.disable(logging.CRITICAL)
    parts = dataset.RecDataset(config)
    str(parts)  # it counts users and items
    train, valid, test = parts.split()
    for part in (train, valid, test):
        str(part)
    utils.init_seed(seed)
    batches = loader.TrainDataLoader(config, train, batch_size=config["train_batch_size"], shuffle=True)
    ranked = [
        loader.EvalDataLoader(config, part, additional_dataset=train, batch_size=config["eval_batch_size"])
        for part in (valid, test)
    ]
    batches.pretrain_setup()
    began, untimed = time.perf_counter(), 0.0
    recommender = utils.get_model(config["model"])(config, batches).to("cpu")
    trainer = utils.get_trainer()(config, recommender, mg=False)
    points: list[tuple[float, float]] = []
    speeds: list[float] = []
    rank = trainer._valid_epoch

    def timed(loader: Any) -> Any:
        nonlocal untimed
        start = time.perf_counter()
        found = rank(loader)
        seconds = time.perf_counter() - start
        if loader is ranked[0]:
            points.append((time.perf_counter() - began - untimed, float(found[0])))
            speeds.append(len(loader.eval_u) / seconds)
        else:
            untimed += seconds
        return found

    trainer._valid_epoch = timed
    best, _, at_best = trainer.fit(batches, valid_data=ranked[0], test_data=ranked[1], saved=False)
    return {
        "curve": points,
        "best": float(best),
        "test": float(at_best["recall@20"]),
        "users_per_second": statistics.median(speeds),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings": settings,
    }


if __name__ == "__main__":
    name, where, given, *numbers = sys.argv[1:]
    print(json.dumps(main(name, where, json.loads(given), *map(int, numbers))))
