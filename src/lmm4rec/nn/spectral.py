"""Filters of vectors in the frequency domain."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn


def spectrum(x: Float[Tensor, "rows dim"]) -> Complex[Tensor, "rows frequencies"]:
    """The discrete Fourier transform of each row, of unit norm: dim // 2 + 1 frequencies."""
    return torch.fft.rfft(x, dim=1, norm="ortho")


class SpectralFilter(nn.Module):
    """A trained complex weight for each frequency (SMORE, arXiv 2412.14978)."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.randn(dim // 2 + 1, 2, generator=generator))  # real and imaginary part

    def forward(self, spectra: Complex[Tensor, "rows frequencies"]) -> Float[Tensor, "rows dim"]:
        """The real vectors whose spectra are the weighted ones: circular convolutions with the filter."""
        return torch.fft.irfft(spectra * torch.view_as_complex(self.weight), n=self.dim, dim=1, norm="ortho")
