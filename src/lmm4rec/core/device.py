"""Where tensors live."""

from __future__ import annotations

import torch

from lmm4rec.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU where there is one, else the CPU.

    Raises:
        ConfigError: torch knows no such device, or this machine lacks it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device '{name}' is unknown; take 'auto', 'cpu', 'cuda' or 'cuda:1'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' was asked for, but torch {torch.__version__} sees no GPU; take 'auto'")
    return device
