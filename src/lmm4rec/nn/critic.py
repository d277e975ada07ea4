"""The critic of a Wasserstein GAN over long rows, such as a user's relations to all items, which are never built."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lmm4rec.nn.graph import dropout
from lmm4rec.nn.projections import Affine, xavier_weight


class RowCritic(nn.Module):
    """100 · sigmoid of two hidden layers over a row: batch norm of LeakyReLU of an affine map, then dropout.

    Rows come as their products with `first`, the weights of the first layer: of a row that is a product itself, u · V
    for few numbers u, this product is u · (V · first), at the cost of u's width. Norms use the batch's statistics.
    """

    def __init__(self, columns: int, width: int, share_dropped: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share_dropped = share_dropped
        self.first, self.offset = xavier_weight(columns, width, generator), nn.Parameter(torch.zeros(width))
        self.second, self.third = Affine(width, max(1, width // 2), generator), Affine(max(1, width // 2), 1, generator)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(n)) for n in (width, max(1, width // 2)))
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in (width, max(1, width // 2)))

    def forward(self, products: Float[Tensor, "rows width"], generator: torch.Generator) -> Float[Tensor, " rows"]:
        """The score of each row: high for real rows."""
        hidden = self._layer(0, products + self.offset, generator)
        hidden = self._layer(1, self.second(hidden), generator)
        return 100 * self.third(hidden).sigmoid()[:, 0]

    def _layer(self, number: int, x: Float[Tensor, "rows width"], generator: torch.Generator) -> Tensor:
        x = F.leaky_relu(x)
        centered = x - x.mean(0)
        x = centered * (centered.square().mean(0) + 1e-5).rsqrt() * self.scales[number] + self.shifts[number]
        return dropout(x, self.share_dropped, generator) if self.share_dropped else x

    def judge(self, products: Float[Tensor, "rows width"], generator: torch.Generator) -> Float[Tensor, " rows"]:
        """The scores by weights that get no gradient: what a generator maximizes."""
        weights = {name: weight.detach() for name, weight in self.named_parameters()}
        scores: Tensor = functional_call(self, weights, (products, generator))
        return scores

    def loss(
        self,
        real: Float[Tensor, "rows width"],
        fake: Float[Tensor, "rows width"],
        generator: torch.Generator,
        *,
        penalty: float,
    ) -> Float[Tensor, ""]:
        """The mean score of the fake rows less that of the real ones, plus `penalty` times the gradient penalty.

        The penalty is the mean of (|gradient| - 1)² at random points between real and fake rows, the gradient being
        that of the scores by the rows (Gulrajani et al. 2017, arXiv 1704.00028). A row's gradient is first · g, with g
        the gradient by its product: its length needs the small matrix firstᵀ · first alone.
        """
        share = torch.rand(len(real), 1, generator=generator).to(real.device)
        between = share * real + (1 - share) * fake
        with torch.enable_grad():  # losses may be computed without
            between = between if between.requires_grad else between.requires_grad_()
            by_product = torch.autograd.grad(self(between, generator).sum(), between, create_graph=True)[0]
        squares = ((by_product @ (self.first.T @ self.first)) * by_product).sum(1)
        gap = self(fake, generator).mean() - self(real, generator).mean()
        return gap + penalty * (squares.clamp(min=1e-12).sqrt() - 1).square().mean()


def product_of_rows(
    left: Float[Tensor, "rows dim"], right: Float[Tensor, "columns dim"], first: Float[Tensor, "columns width"]
) -> Float[Tensor, "rows width"]:
    """The products with `first` of the rows left · rightᵀ, each scaled to length 1."""
    lengths = ((left @ (right.T @ right)) * left).sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    return left @ (right.T @ first) / lengths
