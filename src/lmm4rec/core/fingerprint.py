"""Digests of what determines a result, so that a cache or a split can be told apart from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def fingerprint(*parts: object) -> str:
    """32 hexadecimal digits that change with any part (plain values, arrays, tensors, mappings of them)."""
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:32]


def _feed(digest: hashlib._Hash, part: object) -> None:
    if isinstance(part, Tensor):
        tensor = part.detach().cpu().contiguous()
        digest.update(f"tensor {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    elif isinstance(part, np.ndarray):
        digest.update(f"array {part.dtype} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Mapping):
        digest.update(f"mapping {len(part)}".encode())
        for key in sorted(part):
            _feed(digest, key)
            _feed(digest, part[key])
    else:
        digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
    digest.update(b"\0")
