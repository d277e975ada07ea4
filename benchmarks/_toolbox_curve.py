"""One training of the MMRec toolbox, run in its folder `src` by a Python that has its requirements.

    cd TOOLBOX/src && PYTHON /path/to/benchmarks/_toolbox_curve.py MODEL DATA SETTINGS SEED [VALIDATIONS [UNFINISHED]]

It prints one JSON object and imports nothing of lmm4rec. It ends by early stopping, or after that many validations
(0: no limit). Seconds count from the building of the model, without those of ranking the test part, which the toolbox
does after each validation, and of saving. `UNFINISHED` is a file from which a training that was stopped goes on.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

SAVED_EVERY_S = 60.0


class Unfinished:
    """A file with all that a training of the toolbox goes on from; no path: none is written or read."""

    def __init__(self, path: str, torch: Any, numpy: Any) -> None:
        self.path, self._torch, self._numpy, self._saved = path, torch, numpy, time.perf_counter()

    def load(self) -> dict[str, Any] | None:
        """What was saved, if anything; the random generators continue from there."""
        if not (self.path and Path(self.path).exists()):
            return None
        found: dict[str, Any] = self._torch.load(self.path, weights_only=False)
        random.setstate(found["random"])
        self._numpy.random.set_state(found["numpy"])
        self._torch.set_rng_state(found["torch"])
        return found

    def save(self, trainer: Any, state: dict[str, Any]) -> None:
        """Write the file, if the last time is long enough ago."""
        if not self.path or time.perf_counter() - self._saved < SAVED_EVERY_S:
            return
        found = {
            **state,
            "model": trainer.model,  # whole: some models have tensors that are neither parameters nor buffers
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": trainer.lr_scheduler.state_dict(),
            "random": random.getstate(),
            "numpy": self._numpy.random.get_state(),
            "torch": self._torch.get_rng_state(),
        }
        Path(self.path).parent.mkdir(exist_ok=True)
        self._torch.save(found, f"{self.path}.part")
        Path(f"{self.path}.part").replace(self.path)
        self._saved = time.perf_counter()


def main(
    model: str, data: str, settings: dict[str, Any], seed: int, validations: int = 0, path: str = ""
) -> dict[str, Any]:
    sys.path.insert(0, str(Path.cwd()))
    torch, numpy, configurator, dataset, loader, utils = map(
        importlib.import_module,
        ("torch", "numpy", "utils.configurator", "utils.dataset", "utils.dataloader", "utils.utils"),
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
    unfinished = Unfinished(path, torch, numpy)
    began, untimed = time.perf_counter(), 0.0
    points: list[tuple[float, float]] = []
    speeds: list[float] = []
    if before := unfinished.load():
        batches, points, speeds = before["batches"], before["points"], before["speeds"]
        began -= points[-1][0]
    recommender = before["model"] if before else utils.get_model(config["model"])(config, batches).to("cpu")
    trainer = utils.get_trainer()(config, recommender, mg=False)
    if before:
        trainer.optimizer.load_state_dict(before["optimizer"])
        trainer.lr_scheduler.load_state_dict(before["schedule"])
        vars(trainer).update(before["trainer"])
    rank, valid = trainer._valid_epoch, {}

    def timed(loader: Any) -> Any:
        nonlocal untimed, valid
        start = time.perf_counter()
        found = rank(loader)
        seconds = time.perf_counter() - start
        if loader is ranked[0]:
            points.append((time.perf_counter() - began - untimed, float(found[0])))
            speeds.append(len(loader.eval_u) / seconds)
            valid = found[1]
        else:
            unfinished.save(
                trainer, {"batches": batches, "points": points, "speeds": speeds, "trainer": state(found[1])}
            )
            untimed += time.perf_counter() - start
        return found

    def state(test: Any) -> dict[str, Any]:
        """The trainer's numbers after this epoch: it keeps the results of the best one after it has ranked the test."""
        is_best = trainer.cur_step == 0
        return {
            "start_epoch": len(points) * trainer.eval_step,
            "cur_step": trainer.cur_step,
            "best_valid_score": trainer.best_valid_score,
            "best_valid_result": valid if is_best else trainer.best_valid_result,
            "best_test_upon_valid": test if is_best else trainer.best_test_upon_valid,
        }

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
    name, where, given, start, *more = sys.argv[1:]
    print(json.dumps(main(name, where, json.loads(given), int(start), int(more[0]) if more else 0, *more[1:])))
