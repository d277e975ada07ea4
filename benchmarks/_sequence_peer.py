"""RecTools' SASRec on the same sequences, run by a Python that has it.

    PEER_PYTHON benchmarks/_sequence_peer.py LOG.npz OUT.npz     # prints one JSON object; scores go to OUT.npz

It imports nothing of lmm4rec: the environment needs NumPy, pandas, `rectools[torch]`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import sys
import time
import warnings
from typing import Any

import numpy as np


def main(log_file: str, out_file: str) -> None:
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch, pandas, lightning, models, data = map(
        importlib.import_module,
        ("torch", "pandas", "pytorch_lightning", "rectools.models", "rectools.dataset"),
    )
    torch.set_num_threads(1)
    log = np.load(log_file)
    options = json.loads(str(log["options"]))
    users, items = log["users"], log["items"]
    frame = pandas.DataFrame({"user_id": users, "item_id": items, "weight": 1.0})
    frame["datetime"] = pandas.Timestamp("2020-01-01") + pandas.to_timedelta(np.arange(len(users)), unit="s")
    dataset = data.Dataset.construct(frame)
    rows: dict[str, Any] = {"package": f"rectools {importlib.metadata.version('rectools')}", "seeds": []}
    lists = {}
    for seed in options["seeds"]:
        lightning.seed_everything(seed)
        seconds: list[float] = []
        callback = epoch_timer(lightning, seconds)

        def trainer(callback: Any = callback) -> Any:
            return lightning.Trainer(
                max_epochs=options["epochs"], min_epochs=options["epochs"], deterministic=True, accelerator="cpu",
                logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                callbacks=[callback],
            )  # fmt: skip

        model = models.SASRecModel(
            n_factors=options["dim"], n_blocks=options["layers"], n_heads=1, session_max_len=options["length"],
            dropout_rate=options["dropout"], loss=options["loss"], n_negatives=options["negatives"],
            gbce_t=options["calibration"], lr=options["learning_rate"], batch_size=options["batch_size"],
            dataloader_num_workers=0, get_trainer_func=trainer,
            pos_encoding_kwargs={"use_scale_factor": True},  # item vectors times sqrt(dim), as in the authors' code
            item_net_block_types=(importlib.import_module("rectools.models.nn.item_net").IdEmbeddingsItemNet,),
        )  # fmt: skip
        model.fit(dataset)
        asked = np.unique(users)
        found = model.recommend(asked, dataset, k=options["k"], filter_viewed=True)
        top = np.full((int(log["n_users"]), options["k"]), -1, np.int64)
        top[found["user_id"], found["rank"] - 1] = found["item_id"]
        lists[str(seed)] = top
        parameters = sum(one.numel() for one in model.lightning_model.torch_model.parameters())
        rows["seeds"].append({"seed": seed, "epoch_cpu_seconds": float(np.median(seconds))})
        rows["parameters"] = parameters
    np.savez(out_file, **lists)  # type: ignore[arg-type]
    print(json.dumps(rows))


def epoch_timer(lightning: Any, seconds: list[float]) -> Any:
    """A callback that appends the processor seconds of each epoch."""

    class Timer(lightning.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            seconds.append(-time.process_time())

        def on_train_epoch_end(self, *_: Any) -> None:
            seconds[-1] += time.process_time()

    return Timer()


if __name__ == "__main__":
    main(*sys.argv[1:])
