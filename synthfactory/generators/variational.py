"""What makes an autoencoder variational, with derivatives written out: the latent point that is
drawn, and the likelihood of the rows.

Every result has a place of its own that is kept from step to step: to ask for memory, and to make
views of it, takes as long as the arithmetic of a small layer.  On a processor, in float32, one
compiled loop does the work of all operations between two matrix products (`FusedLatent`,
`FusedLikelihood`), and on an NVIDIA GPU one kernel (`synthfactory.generators.variational_gpu`); the
plain classes run everywhere.

Legend: K members, B batch rows, M numeric columns, S spans, W width of the logits, Z latent width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.drawing import Batch
from synthfactory.generators.features import softmax
from synthfactory.generators.fusing import ProcessorLoops
from synthfactory.generators.layout import Layout

LOG_VARIANCE_RANGE = (-20.0, 10.0)
SMALLEST = torch.finfo(torch.float32).tiny


class Latent:
    """A point drawn from the encoder's normal distribution (Kingma and Welling 2014, arXiv
    1312.6114, section 2.4), and that distribution's divergence from the standard one.

    Parameters
    ----------
    encoded_K2ZB
        Where the encoder writes means and logarithms of variances; they are overwritten.
    points_KZB
        Where the decoder reads.
    """

    def __init__(self, encoded_K2ZB: Tensor, points_KZB: Tensor) -> None:
        n_latent, self._n_rows = points_KZB.shape[1:]
        self._n_latent = n_latent
        self._points = points_KZB
        # Deviations take the place of the logarithms, so that one norm is over both.
        self._both = encoded_K2ZB
        self._mean, self._deviation = encoded_K2ZB[:, :n_latent], encoded_K2ZB[:, n_latent:]
        self._log = torch.empty_like(self._mean)
        self._variance = torch.empty_like(self._mean)
        self._moved = torch.empty_like(self._mean)
        self._d_encoded = torch.empty_like(encoded_K2ZB)
        self._d_mean = self._d_encoded[:, :n_latent]
        self._d_log = self._d_encoded[:, n_latent:]
        self._share = 0.5 / self._n_rows
        self._less = torch.full((1, 1, 1), -self._share, device=encoded_K2ZB.device)

    def draw(self, noise_KZB: Tensor) -> Tensor:
        """Write the points; returns the divergence, mean over the batch, **shape** (K,)."""
        torch.clamp(self._deviation, *LOG_VARIANCE_RANGE, out=self._log)
        torch.mul(self._log, 0.5, out=self._deviation).exp_()
        torch.square(self._deviation, out=self._variance)
        torch.mul(noise_KZB, self._deviation, out=self._moved)
        torch.add(self._mean, self._moved, out=self._points)
        # 0.5 * sum(mean^2 + variance - 1 - log variance).
        squares = torch.linalg.vector_norm(self._both, dim=(1, 2)).square_()
        total: Tensor = squares.sub_(self._log.sum(dim=(1, 2))).mul_(self._share)
        return total.sub_(0.5 * self._n_latent)

    def backward(self, d_points_KZB: Tensor) -> Tensor:
        """**Shape** (K, 2 Z, B): the gradient at what the encoder wrote, the divergence's
        included."""
        torch.add(d_points_KZB, self._mean, alpha=1.0 / self._n_rows, out=self._d_mean)
        d_log = torch.add(self._less, self._variance, alpha=self._share, out=self._variance)
        d_log.addcmul_(d_points_KZB, self._moved, value=0.5)
        torch.ops.aten.hardtanh_backward.grad_input(
            d_log, self._log, *LOG_VARIANCE_RANGE, grad_input=self._d_log
        )
        return self._d_encoded


class Likelihood:
    """Negative log-likelihood of rows, mean over the batch (Xu et al. 2019, section 4.5).

    Parameters
    ----------
    layout
        The arrangement of the logits.
    logits_KWB
        Where the decoder writes.
    sigma_KM, d_sigma_KM
        The decoder's deviations, and where their gradient is written.
    factor
        Weight of this loss.
    """

    def __init__(
        self,
        layout: Layout,
        logits_KWB: Tensor,
        sigma_KM: Tensor,
        d_sigma_KM: Tensor,
        factor: float,
    ) -> None:
        n_members, _, self._n_rows = logits_KWB.shape
        n_numeric = layout.n_numeric
        self._sigma, self._d_sigma = sigma_KM, d_sigma_KM
        self._sigma_KM1 = sigma_KM.unsqueeze(2)
        self._scale = factor / self._n_rows
        d_logits = self._d_logits = torch.empty_like(logits_KWB)
        self._groups = []
        for group in layout.groups:
            shape = (group.count, group.size)
            each = (whole[:, group.rows].unflatten(1, shape) for whole in (logits_KWB, d_logits))
            self._groups.append(tuple(each))
        self._flat = d_logits.view(-1)
        self._scalars, self._d_scalars = logits_KWB[:, :n_numeric], d_logits[:, :n_numeric]
        self._mean = torch.empty_like(self._scalars)
        self._error = torch.empty_like(self._scalars)
        self._square = torch.empty_like(self._scalars)
        n_codes = n_members * len(layout.sizes) * self._n_rows
        self._picked = self._flat.new_empty(n_codes)
        self._fewer = self._flat.new_full((n_codes,), -self._scale)

    def learn(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, **shape** (K,), and its gradient at the logits, (K, W, B); the deviations' is
        written."""
        for logits, shares in self._groups:
            softmax(logits, shares)
        # Where a share is too small for a float, the loss that is told is smaller than the true
        # one; the gradient does not need it.
        torch.index_select(self._flat, 0, batch.places, out=self._picked)
        likelihood_K = (
            self._picked.clamp_min_(SMALLEST).log_().view(len(self._sigma), -1).sum(dim=1)
        )
        self._d_logits.mul_(self._scale)
        self._flat.scatter_add_(0, batch.places, self._fewer)
        loss_K = self._learn_scalars(batch).sub_(likelihood_K)
        return loss_K.div_(self._n_rows), self._d_logits

    def _learn_scalars(self, batch: Batch) -> Tensor:
        """The scalars' part of the loss, sum over the batch, **shape** (K,)."""
        mean = torch.tanh(self._scalars, out=self._mean)
        error = torch.sub(batch.scalars_KMB, mean, out=self._error)
        error.mul_(batch.present_KMB).div_(self._sigma_KM1)
        squares_KM = torch.square(error, out=self._square).sum(dim=2)
        torch.sub(batch.counts_KM, squares_KM, out=self._d_sigma)
        self._d_sigma.div_(self._sigma).mul_(self._scale)
        error.div_(self._sigma_KM1).mul_(-self._scale)
        torch.ops.aten.tanh_backward.grad_input(error, mean, grad_input=self._d_scalars)
        # 0.5 * (error / sigma)^2 + log sigma, where there is a scalar.
        each_KM = squares_KM.mul_(0.5).addcmul_(batch.counts_KM, self._sigma.log())
        return each_KM.sum(dim=1)


class FusedLatent(Latent):
    """`Latent` in compiled loops."""

    def __init__(self, encoded_K2ZB: Tensor, points_KZB: Tensor) -> None:
        super().__init__(encoded_K2ZB, points_KZB)
        self._loops = ProcessorLoops().variational
        self._divergence_K = encoded_K2ZB.new_zeros(len(encoded_K2ZB))
        self._arrays = tuple(tensor.numpy() for tensor in (encoded_K2ZB, points_KZB, self._moved))
        self._outputs = self._divergence_K.numpy(), self._d_encoded.numpy()
        low, high = LOG_VARIANCE_RANGE
        self._low, self._high = np.float32(low), np.float32(high)

    def draw(self, noise_KZB: Tensor) -> Tensor:
        """See `Latent.draw`."""
        encoded, points, moved = self._arrays
        totals, _ = self._outputs
        self._loops.draw(encoded, noise_KZB.numpy(), points, moved, self._low, self._high, totals)
        return self._divergence_K.mul_(self._share).sub_(0.5 * self._n_latent)

    def backward(self, d_points_KZB: Tensor) -> Tensor:
        """See `Latent.backward`."""
        encoded, _, moved = self._arrays
        share = np.float32(1.0 / self._n_rows)
        _, d_encoded = self._outputs
        self._loops.draw_backward(
            encoded, moved, d_points_KZB.numpy(), self._low, self._high, share, d_encoded
        )
        return self._d_encoded


class FusedLikelihood(Likelihood):
    """`Likelihood` in compiled loops."""

    def __init__(
        self,
        layout: Layout,
        logits_KWB: Tensor,
        sigma_KM: Tensor,
        d_sigma_KM: Tensor,
        factor: float,
    ) -> None:
        super().__init__(layout, logits_KWB, sigma_KM, d_sigma_KM, factor)
        self._loops = ProcessorLoops().variational
        self._loss_K = logits_KWB.new_zeros(len(logits_KWB))
        self._starts, self._sizes = np.array(layout.starts), np.array(layout.sizes)
        self._logits = logits_KWB.numpy()
        self._sigmas = sigma_KM.numpy(), d_sigma_KM.numpy()
        self._outputs = self._d_logits.numpy(), self._loss_K.numpy()

    def learn(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Likelihood.learn`."""
        scale = np.float32(self._scale)
        d_logits, losses = self._outputs
        sigma, d_sigma = self._sigmas
        self._loops.learn_codes(
            self._logits, batch.places.numpy(), self._starts, self._sizes, scale, d_logits, losses
        )
        scalars, present = batch.scalars_KMB.numpy(), batch.present_KMB.numpy()
        counts = batch.counts_KM.numpy()
        self._loops.learn_scalars(
            self._logits, scalars, present, counts, sigma, scale, d_logits, d_sigma,
            losses,
        )  # fmt: skip
        return self._loss_K.div_(self._n_rows), self._d_logits
