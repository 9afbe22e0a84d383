"""The Mahalanobis distance, with a covariance that is given, estimated or learned."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distances import length, of_difference
from mmcontrast.loading import all_or_nothing, any_values, load_checked
from mmcontrast.rows import dot, upcast
from mmcontrast.sharded import local_rows


class Mahalanobis(nn.Module):
    r"""Mahalanobis distance :math:`\sqrt{(x - y)\, C^{-1} (x - y)^\top}`.

    It is the Euclidean length of the whitened difference :math:`W (x - y)`, with W the inverse of
    the lower Cholesky factor of C, so that :math:`W^\top W = C^{-1}`. Its gradient at distance 0
    is 0.

    Args:
        covariance: (D, D) symmetric and positive definite; a constant, no gradient reaches it.
        trainable: learn the distance, starting from this covariance. W is then multiplied by a
            lower triangular :math:`T` with a positive diagonal, so that the result is always
            positive definite, and every positive definite matrix can be learned.

    Raises:
        ValueError: on another shape or dtype, or a matrix that is not symmetric and positive
            definite.

    Example:
        >>> distance = Mahalanobis(torch.diag(torch.tensor([4.0, 1.0])))
        >>> distance(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0]))
        tensor(1.)
    """

    whitening: Tensor
    factor: nn.Parameter | None

    load_state_dict = load_checked

    def __init__(self, covariance: Tensor, *, trainable: bool = False):
        super().__init__()
        arguments.matrix("covariance", covariance)
        arguments.flag("trainable", trainable)
        size = covariance.shape[1]
        if len(covariance) != size:
            arguments.fail("covariance", f"shape ({size}, {size})", arguments.shape(covariance))
        exact = covariance.detach().double()
        correlations = _correlations(exact)
        if not correlations.isfinite().all():
            arguments.fail("covariance", "finite numbers", "NaN or infinity")
        if not torch.allclose(correlations, correlations.mT, atol=1e-5):
            arguments.fail("covariance", "a symmetric matrix", "one that is not")
        rank = _rank(correlations, torch.finfo(covariance.dtype).eps)
        if rank < size:
            arguments.fail(
                "covariance", "a positive definite matrix", f"{rank} eigenvalues above 0"
            )
        lower = torch.linalg.cholesky(exact)
        whitening = torch.linalg.solve_triangular(lower, torch.eye(size).to(lower), upper=False)
        self.register_buffer("whitening", whitening.to(upcast(covariance).dtype))
        factor = nn.Parameter(torch.zeros_like(self.whitening)) if trainable else None
        self.register_parameter("factor", factor)
        all_or_nothing(self, any_values)

    @classmethod
    @local_rows
    def estimate(cls, samples: Tensor, *, shrinkage: float = 0.0) -> "Mahalanobis":
        r"""The distance for the covariance of samples, shrunk towards a multiple of the identity.

        .. math:: C = (1 - \alpha)\, S + \alpha\, \frac{\mathrm{tr}\, S}{D}\, I

        S is the sample covariance, over N - 1.

        Args:
            samples: (N, D), two rows or more; constants, no gradient reaches them.
            shrinkage: :math:`\alpha` from 0 to 1.

        Raises:
            ValueError: on another shape, values that are not finite, a shrinkage outside [0, 1], or
                samples with a singular covariance: fewer than D + 1 of them, a constant feature,
                features that determine each other. A shrinkage of 0.01 then helps, unless all
                samples are equal.

        Example:
            >>> samples = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
            >>> Mahalanobis.estimate(samples).whitening  # variances 8/3 and 2/3
            tensor([[0.6124, 0.0000],
                    [0.0000, 1.2247]])

        References: the shrinkage target is Ledoit and Wolf's, J. Multivariate Analysis 88, 2004.
        """
        arguments.matrix("samples", samples)
        if not arguments.is_number(shrinkage) or not 0 <= shrinkage <= 1:
            arguments.fail("shrinkage", "a number from 0 to 1", arguments.shown(shrinkage))
        count, size = samples.shape
        if count < 2 or not samples.isfinite().all():
            got = arguments.shape(samples) if count < 2 else "NaN or infinity"
            arguments.fail("samples", "two finite rows or more", got)
        # Relative to the first sample, so that a constant feature has a variance of exactly 0.
        exact = samples.detach().double() - samples[0].detach().double()
        covariance: Tensor = exact.mT.cov().reshape(size, size)
        scatter = covariance.trace() / size * torch.eye(size).to(covariance)
        covariance = (1 - shrinkage) * covariance + shrinkage * scatter
        # Rounding leaves a feature that others determine a variance of about eps squared.
        rank = _rank(_correlations(covariance), torch.finfo(samples.dtype).eps ** 2)
        if rank < size:
            arguments.fail(
                "samples",
                f"a spread in all {size} directions, or shrinkage above 0",
                f"a covariance of rank {rank} from {count} samples",
            )
        return cls(covariance).to(upcast(samples[:1]).dtype)

    @classmethod
    def learned(cls, size: int) -> "Mahalanobis":
        """A learned distance on rows of ``size`` features, initially the Euclidean one.

        Example:
            >>> distance = Mahalanobis.learned(2)
            >>> distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).item()
            5.0
        """
        return cls(torch.eye(arguments.whole("size", size)), trainable=True)

    @local_rows
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., D), (..., D) -> (...), in float32, or float64 for float64 input."""
        return of_difference(lambda apart: length(self.whiten(apart)), x, y)

    @local_rows
    def whiten(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D): rows with a Euclidean distance that is the Mahalanobis one."""
        arguments.floating_rows("x", x)
        x = upcast(x)
        size = len(self.whitening)
        if x.shape[-1] != size:
            arguments.fail("x", f"shape (..., {size}), as the covariance", arguments.shape(x))
        whitening = upcast(self.whitening)
        if self.factor is not None:
            factor = upcast(self.factor)
            triangle = factor.tril(-1) + factor.diagonal().exp().diag_embed()
            whitening = dot(triangle, whitening.mT)
        return dot(x[..., None, :], whitening.to(x.dtype))[..., 0, :]

    def extra_repr(self) -> str:
        """The number of features, and whether the distance is learned."""
        return f"size={len(self.whitening)}, trainable={self.factor is not None}"


def _correlations(covariance: Tensor) -> Tensor:
    """The correlation matrix of a covariance."""
    variances = covariance.diagonal()
    scale = torch.where(variances > 0, variances, 1).sqrt()
    return covariance / scale / scale[:, None]


def _rank(correlations: Tensor, resolution: float) -> int:
    """Rank of a correlation matrix, to the given resolution of the samples."""
    rounding = 10 * len(correlations) * torch.finfo(correlations.dtype).eps
    return int((torch.linalg.eigvalsh(correlations) > max(resolution, rounding)).sum())
