"""The networks of CTGAN and TVAE; every draw, initial weights included, from a given stream.

Legend: B batch rows, W encoded width, C condition width, Z latent width, H hidden width,
P rows of one pac, G = B / P pacs, X = P * (W + C) width of a pac.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2


def linear(n_in: int, n_out: int, stream: torch.Generator) -> nn.Linear:
    """A linear layer with uniform initial weights of variance 1 / (3 n_in), torch's default."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=stream)
        layer.bias.uniform_(-bound, bound, generator=stream)
    return layer


class Residual(nn.Module):
    """``cat(relu(batchnorm(fc(x))), x)``, Xu et al. 2019, section 4.4."""

    def __init__(self, n_in: int, n_out: int, stream: torch.Generator) -> None:
        super().__init__()
        self.fc = linear(n_in, n_out, stream)
        self.norm = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """**Shape** (B, n_in) to (B, n_out + n_in)."""
        return torch.cat([F.relu(self.norm(self.fc(x))), x], dim=1)


class GeneratorNetwork(nn.Module):
    """Noise and condition in, logits of an encoded row out."""

    def __init__(
        self, n_in: int, hidden: Sequence[int], width: int, stream: torch.Generator
    ) -> None:
        super().__init__()
        blocks = []
        for size in hidden:
            blocks.append(Residual(n_in, size, stream))
            n_in += size
        self.blocks = nn.Sequential(*blocks)
        self.out = linear(n_in, width, stream)

    def forward(self, z_BZC: Tensor) -> Tensor:
        """**Shape** (B, Z + C) to (B, W)."""
        logits_BW: Tensor = self.out(self.hidden(z_BZC))
        return logits_BW

    def hidden(self, z_BZC: Tensor) -> Tensor:
        """**Shape** (B, Z + C) to (B, H): what the last layer receives."""
        x_BH: Tensor = self.blocks(z_BZC)
        return x_BH


class Discriminator(nn.Module):
    """Judges P rows together (PacGAN, Lin et al. 2018, arXiv 1712.04086)."""

    def __init__(
        self, width: int, pac: int, hidden: Sequence[int], dropout: float, stream: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [width * pac, *hidden]
        self.pac = pac
        self.dropout = dropout
        self.layers = nn.ModuleList(
            linear(n_in, n_out, stream) for n_in, n_out in itertools.pairwise(sizes)
        )
        self.out = linear(sizes[-1], 1, stream)

    def forward(self, x_GX: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (G, P * (W + C)) to (G,); dropout is drawn from ``stream``."""
        return self._scores(self.layers[0](x_GX), stream)

    def judge(
        self, real_GX: Tensor, fake_GX: Tensor, share_G1: Tensor, stream: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of real and fake pacs, and the slopes of the score between them.

        The network is piecewise linear, so that its slope at a point is a product of its weights
        and of the local factors of its units.  The product is formed directly: the gradient
        penalty then needs one backward pass through it, not a backward pass of a backward pass.
        The first layer is linear, so that what it makes of a point between two others lies
        between what it makes of them.

        Returns
        -------
        real_G, fake_G, slope_GX
            The slopes at ``fake + share * (real - fake)``.
        """
        hidden_GH: Tensor = self.layers[0](torch.cat([real_GX, fake_GX]))
        scores = self._scores(hidden_GH, stream)
        real_GH, fake_GH = hidden_GH.detach().chunk(2)
        slope_GX = self._slopes(torch.lerp(fake_GH, real_GH, share_G1), stream)
        return scores[: len(real_GX)], scores[len(real_GX) :], slope_GX

    def _scores(self, hidden_GH: Tensor, stream: torch.Generator) -> Tensor:
        """The score from the first layer's sums."""
        for place, layer in enumerate(self.layers):
            if place:
                hidden_GH = layer(hidden_GH)
            hidden_GH = F.leaky_relu(hidden_GH, LEAK)
            hidden_GH = hidden_GH * _dropout_mask(hidden_GH, self.dropout, stream)
        score_G: Tensor = self.out(hidden_GH).squeeze(1)
        return score_G

    def _slopes(self, hidden_GH: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (G, P * (W + C)): gradient of the score with respect to the input."""
        factors = []
        with torch.no_grad():
            for place, layer in enumerate(self.layers):
                if place:
                    hidden_GH = layer(hidden_GH)
                leak_GH = torch.where(hidden_GH > 0, 1.0, LEAK)
                factors.append(leak_GH * _dropout_mask(hidden_GH, self.dropout, stream))
                hidden_GH = hidden_GH * factors[-1]
        slope: Tensor = self.out.weight
        for layer, factor_GH in zip(reversed(self.layers), reversed(factors), strict=True):
            assert isinstance(layer, nn.Linear)
            slope = (slope * factor_GH) @ layer.weight
        return slope


def _dropout_mask(x: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Zeros with probability ``share``, else ``1 / (1 - share)``; from a stream of its own."""
    kept = torch.rand(x.shape, generator=stream, device=x.device) >= share
    return kept.to(x.dtype) / (1.0 - share)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them: TVAE's encoder and decoder."""

    def __init__(
        self, n_in: int, hidden: Sequence[int], n_out: int, stream: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [n_in, *hidden]
        self.layers = nn.ModuleList(linear(a, b, stream) for a, b in itertools.pairwise(sizes))
        self.out = linear(sizes[-1], n_out, stream)

    def forward(self, x: Tensor) -> Tensor:
        """**Shape** (B, n_in) to (B, n_out)."""
        result: Tensor = self.out(self.hidden(x))
        return result

    def hidden(self, x: Tensor) -> Tensor:
        """**Shape** (B, n_in) to (B, H): what the last layer receives."""
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class Average:
    """An exponential moving average of a network's weights, for sampling.

    The last iterate of an adversarial game circles around a solution; its average lies nearer
    (Yazıcı et al. 2019, arXiv 1806.04498).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one more iterate in; early ones weigh more, so that the start is forgotten."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        ours: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - decay)


def draw_categories(logits_BW: Tensor, sizes: Sequence[int], stream: torch.Generator) -> Tensor:
    """**Shape** (B, S): for each span a code, drawn by the softmax of its logits.

    The largest of logit plus Gumbel noise is such a draw (Jang et al. 2017,
    arXiv 1611.01144, equation 1).
    """
    noisy = logits_BW + gumbel(logits_BW, stream)
    return torch.stack([part.argmax(dim=1) for part in noisy.split(list(sizes), dim=1)], dim=1)


def gumbel(like: Tensor, stream: torch.Generator) -> Tensor:
    """Gumbel noise of the same shape."""
    uniform = torch.rand(like.shape, generator=stream, device=like.device, dtype=like.dtype)
    # A uniform draw may be exactly 0, whose double logarithm is infinite.
    return uniform.clamp_(min=1e-20).log_().neg_().clamp_(min=1e-20).log_().neg_()
