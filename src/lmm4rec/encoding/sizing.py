"""The values of "auto" on a machine: precision, batch size and number of worker processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lmm4rec.core.device import cores, has_bfloat16
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
ResolvedPrecision: TypeAlias = Literal["float32", "bfloat16"]

PREFETCH = 2  # batches that each worker prepares ahead
_LARGEST_BATCH = 256
_WORTH_WORKERS_S = 2.0  # seconds of work below which starting processes takes longer
_MOST_WORKERS = 16
_HELD = 2  # tensors held at once, as a multiple of those of the largest operation: a residual, a norm, an activation
MB = 2**20


def resolve_precision(wanted: Precision, encoder: nn.Module, device: torch.device) -> ResolvedPrecision:
    """The precision that is wanted; "auto" is bfloat16 where the device has it and the encoder has weights."""
    if wanted != "auto":
        return wanted
    has_weights = next(encoder.parameters(), None) is not None
    return "bfloat16" if has_weights and has_bfloat16(device) else "float32"


def worker_count(preparing_s: float, batch_bytes: int) -> int:
    """The number of processes that prepare batches ahead: all cores but one, none where preparing takes little time.

    Batches prepared ahead lie in shared memory, of which a container may have little.
    """
    if preparing_s < _WORTH_WORKERS_S:
        return 0
    shared = Path("/dev/shm")
    room = shutil.disk_usage(shared).free // 2 // (PREFETCH * max(batch_bytes, 1)) if shared.exists() else _MOST_WORKERS
    return max(0, min(cores() - 1, room, _MOST_WORKERS))


def batch_size(encoder: Encoder, inputs: Inputs, memory_mb: int) -> int:
    """The largest power of two of items whose activations fit `memory_mb`, 256 at most.

    `inputs` is one item, the one with the longest text. Its activations are counted in float32 from the sizes of
    tensors, so that the answer, and with it the rounding of vectors, is the same each time.
    """
    with torch.inference_mode(), _LargestOperation(encoder) as largest:
        encoder(inputs)
    fitting = memory_mb * MB // max(_HELD * largest.bytes + input_bytes(inputs), 1)
    return min(_LARGEST_BATCH, 2 ** (max(fitting, 1).bit_length() - 1))


def kept_bytes(module: nn.Module, compute: Callable[[], object]) -> int:
    """The bytes that autograd keeps of a computation for its backward pass, the module's own weights left out."""
    own = {_address(tensor) for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if _address(tensor) not in own:
            kept[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()  # held until the sum is taken, so that no address is used twice
        total = sum(kept.values())
    del result
    return total


def input_bytes(inputs: Inputs) -> int:
    """The bytes of all tensors of a batch."""
    return sum(values.nbytes for values in inputs if values is not None)


class _LargestOperation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the largest sum of bytes that one operation reads and writes, the module's own weights left out."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._own = {_address(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, sum(self._sizes(pytree.tree_leaves((args, kwargs, out))).values()))
        return out

    def _sizes(self, leaves: Iterable[Any]) -> dict[int, int]:
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return {_address(one): one.nbytes for one in tensors if _address(one) not in self._own}


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
