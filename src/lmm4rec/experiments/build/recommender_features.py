"""Features as a plan's recommender reads them: rotated onto fewer axes, and in the precision that [features] names."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from lmm4rec.core.device import choose_device, has_bfloat16
from lmm4rec.core.types import Features
from lmm4rec.distributed import process_group
from lmm4rec.experiments.build.data import log_findings
from lmm4rec.experiments.build.features import RunFeatures
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.features.rotation import Axes, leading_axes, read_axes, rotated, rotation_findings, save_axes


def recommender_features(plan: Plan, loaded: RunFeatures, folder: RunFolder | None = None) -> RunFeatures:
    """The features with `rotate` and `vector_precision`; as they are without, or where the recommender reads none.

    Weights refer to the axes. So these are read from the folder of a run that goes on, and from that of the run whose
    weights a warm start loads; else they are computed from the features, and written into the folder.

    Raises:
        ConfigError: the run of train.start_from has axes of features of another width.
    """
    if not loaded.features or not plan.recommender.reads_content:
        return loaded
    read = _rotated(plan, loaded, folder) if plan.features.rotate else loaded
    if plan.features.vector_precision == "float32":
        return read
    if not has_bfloat16(choose_device(plan.train.device)):
        logging.getLogger(__name__).warning(
            'this machine has no native bfloat16: features.vector_precision = "bfloat16" takes longer than "float32"'
        )
    at_test = None if read.at_test is None else _bfloat16(read.at_test)
    return replace(read, features=_bfloat16(read.features), at_test=at_test, encoded=loaded.features)


def _rotated(plan: Plan, loaded: RunFeatures, folder: RunFolder | None) -> RunFeatures:
    axes = process_group.broadcast(_axes(plan, loaded.features, folder) if process_group.is_first() else None)
    features = rotated(loaded.features, axes)
    at_test = None if loaded.at_test is None else rotated(loaded.at_test, axes)
    notes = rotation_findings(loaded.features, features)
    log_findings(notes)
    findings = (*loaded.findings, *notes)
    return replace(loaded, features=features, at_test=at_test, encoded=loaded.features, axes=axes, findings=findings)


def _axes(plan: Plan, features: Features, folder: RunFolder | None) -> Axes:
    if folder is not None and folder.axes.exists():
        return read_axes(folder.axes)
    earlier = RunFolder(Path(plan.train.start_from)).axes if plan.train.start_from else None
    known = read_axes(earlier) if earlier is not None and earlier.exists() else {}
    share = plan.features.rotate
    axes = {m: known[m] if m in known else leading_axes(x, share) for m, x in features.items()}
    if folder is not None:
        save_axes(folder.axes, axes)
    return axes


def _bfloat16(features: Features) -> Features:
    return {modality: x.to(torch.bfloat16) for modality, x in features.items()}
