"""Views of the same nodes, such as their vectors by modality: what they share, their alignment, and noise on them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.nn.projections import Affine


def shared_and_specific(
    views: Float[Tensor, "nodes modalities dim"], query: Affine, asked: Float[Tensor, "dim 1"]
) -> tuple[Float[Tensor, "nodes dim"], Float[Tensor, "nodes modalities dim"]]:
    """The shared part s = sum over m of a_m · e_m, and the specific parts e_m - s.

    Attention: a = softmax over m of asked · tanh(query(e_m)) (MGCN, arXiv 2308.03588, eq. 11-13).
    """
    attention = (query(views).tanh() @ asked).softmax(dim=1)
    shared = (attention * views).sum(1)
    return shared, views - shared[:, None]


def moment_gap(one: Float[Tensor, "nodes dim"], other: Float[Tensor, "nodes width"]) -> Float[Tensor, ""]:
    """|variance - variance| + |mean - mean| of all numbers of two views: how far apart fitted Gaussians are.

    It is the alignment loss of MENTOR (arXiv 2402.19407) and GUME (arXiv 2407.12338).
    """
    return (one.var() - other.var()).abs() + (one.mean() - other.mean()).abs()


def perturbed(
    x: Float[Tensor, "nodes dim"], generator: torch.Generator, size: float = 0.1
) -> Float[Tensor, "nodes dim"]:
    """Vectors moved by random ones of length `size` in their own orthant (SimGCL, arXiv 2112.08679, eq. 4-5)."""
    noise = torch.rand(x.shape, generator=generator).to(x.device)
    return x + size * x.detach().sign() * F.normalize(noise, dim=1)
