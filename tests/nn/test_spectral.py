"""The filter in the frequency domain against the definition of the transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.nn.spectral import SpectralFilter, spectrum


@pytest.mark.parametrize("dim", [4, 5])
def test_a_filter_weighs_frequencies(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    module = SpectralFilter(dim, generator)
    x = torch.randn(3, dim, generator=generator)
    places = np.arange(dim)
    transform = np.exp(-2j * np.pi * np.outer(places, places) / dim) / np.sqrt(dim)
    half = dim // 2 + 1
    np.testing.assert_allclose(spectrum(x), (x.numpy() @ transform)[:, :half], atol=1e-6)
    w = module.weight.detach().numpy() @ np.array([1, 1j])
    full = np.zeros(dim, complex)  # frequency k and dim - k are conjugate in a real vector
    full[:half] = w
    full[half:] = w[1 : dim - half + 1][::-1].conj()
    # those that are their own conjugate can only be real
    for own in {0, dim // 2} if dim % 2 == 0 else {0}:
        full[own] = full[own].real
    expected = ((x.numpy() @ transform) * full) @ transform.conj().T
    np.testing.assert_allclose(expected.imag, 0, atol=1e-6)
    np.testing.assert_allclose(module(spectrum(x)).detach(), expected.real, atol=1e-6)


def test_a_weight_of_one_changes_nothing() -> None:
    module = SpectralFilter(6, torch.Generator())
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, 0.0]).expand(4, 2))
    x = torch.randn(2, 6)
    torch.testing.assert_close(module(spectrum(x)), x)
