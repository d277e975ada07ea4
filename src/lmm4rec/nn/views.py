"""Views of the same nodes, such as their vectors by modality: what they share, their alignment, and noise on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

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


def moment_gaps(views: Sequence[Float[Tensor, "nodes _dim"]]) -> Float[Tensor, ""]:
    """|variance - variance| + |mean - mean| of all numbers of two views, summed over all pairs of views.

    It says how far apart Gaussians fitted to the views are: the alignment loss of MENTOR (arXiv 2402.19407) and GUME
    (arXiv 2407.12338).
    """
    moments = [torch.stack([view.var(), view.mean()]) for view in views]
    return torch.stack([(one - other).abs().sum() for one, other in itertools.combinations(moments, 2)]).sum()


@torch.no_grad()
def orthant_noise(
    x: Float[Tensor, "nodes dim"], generator: torch.Generator, size: float = 0.1
) -> Float[Tensor, "nodes dim"]:
    """Random vectors of length `size`, each in the orthant of x's (SimGCL, arXiv 2112.08679, eq. 4-5); constants."""
    noise = torch.rand(x.shape, generator=generator).to(x.device)
    return size * x.sign() * F.normalize(noise, dim=1)


def perturbed(
    x: Float[Tensor, "nodes dim"], generator: torch.Generator, size: float = 0.1
) -> Float[Tensor, "nodes dim"]:
    """The vectors with `orthant_noise`."""
    return x + orthant_noise(x, generator, size)
