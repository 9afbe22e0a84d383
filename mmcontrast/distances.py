"""Distances on rows: any callable (..., D), (..., D) -> (...) serves where one is asked for."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmcontrast import _checks
from mmcontrast.rows import dot, l2_normalize, upcast

Distance = Callable[[Tensor, Tensor], Tensor]


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Euclidean distance :math:`\|x - y\|_2`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, as in every distance here.

    Example:
        >>> euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(5.)

    References: CorMulT, arXiv:2407.07046, section 4.3, as the other distances of this file.
    """
    return _length(_gap(x, y))


def squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distance :math:`\|x - y\|_2^2`.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> squared_euclidean(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(25.)
    """
    return _gap(x, y).square().sum(-1)


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    r"""Manhattan distance :math:`\sum_k |x_k - y_k|`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> manhattan(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(7.)
    """
    return _gap(x, y).abs().sum(-1)


def chebyshev(x: Tensor, y: Tensor) -> Tensor:
    r"""Chebyshev distance :math:`\max_k |x_k - y_k|`; its gradient at distance 0 is 0.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> chebyshev(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
        tensor(4.)
    """
    return _gap(x, y).abs().amax(-1)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Cosine distance :math:`1 - \cos(x, y)`, from 0 to 2.

    A zero row has no direction: its cosine with anything is 0, its distance 1, and its gradient 0.
    This is no metric: at 0, 45 and 90 degrees two distances of 0.29 add up to less than one of 1.

    Args:
        x: (..., D).
        y: (..., D).

    Returns:
        (...) in float32, or float64 for float64 input.

    Example:
        >>> cosine_distance(torch.tensor([3.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
        tensor([0., 1.])
    """
    x, y = _pair(x, y)
    x, y = l2_normalize(x), l2_normalize(y)
    # Half the squared distance of unit rows is 1 - cos with every digit where the two are close.
    apart = (x - y).square().sum(-1) / 2
    undirected = (x == 0).all(-1).to(apart.dtype) + (y == 0).all(-1).to(apart.dtype)
    return within(apart + undirected / 2, 0, 2)


class Mahalanobis(nn.Module):
    r"""Mahalanobis distance :math:`\sqrt{(x - y)\, C^{-1} (x - y)^\top}`, a distance with a state.

    It is the Euclidean length of the whitened difference :math:`W (x - y)`, with W the inverse of
    the lower Cholesky factor of C, so that :math:`W^\top W = C^{-1}`. Its gradient at distance 0
    is 0.

    Args:
        covariance: (D, D) symmetric and positive definite; a constant, no gradient reaches it.
        trainable: learn the distance, starting from this covariance. W is then multiplied by a
            lower triangular :math:`T` with a positive diagonal, so that whatever is learned stays
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

    def __init__(self, covariance: Tensor, *, trainable: bool = False):
        super().__init__()
        _checks.matrix("covariance", covariance)
        size = covariance.shape[1]
        if len(covariance) != size:
            _checks.fail("covariance", f"shape ({size}, {size})", _checks.shape(covariance))
        exact = covariance.detach().double()
        correlations = _correlations(exact)
        if not correlations.isfinite().all():
            _checks.fail("covariance", "finite numbers", "NaN or infinity")
        if not torch.allclose(correlations, correlations.mT, atol=1e-5):
            _checks.fail("covariance", "a symmetric matrix", "one that is not")
        rank = _rank(correlations, torch.finfo(covariance.dtype).eps)
        if rank < size:
            _checks.fail("covariance", "a positive definite matrix", f"{rank} eigenvalues above 0")
        lower = torch.linalg.cholesky(exact)
        whitening = torch.linalg.solve_triangular(lower, torch.eye(size).to(lower), upper=False)
        self.register_buffer("whitening", whitening.to(upcast(covariance).dtype))
        self.factor = nn.Parameter(torch.zeros_like(self.whitening)) if trainable else None

    @classmethod
    def estimate(cls, samples: Tensor, *, shrinkage: float = 0.0) -> "Mahalanobis":
        r"""The distance for the covariance of samples, shrunk towards a multiple of the identity.

        .. math:: C = (1 - \alpha)\, S + \alpha\, \frac{\mathrm{tr}\, S}{D}\, I

        S is the sample covariance, over N - 1.

        Args:
            samples: (N, D), two rows or more; constants, no gradient reaches them.
            shrinkage: :math:`\alpha` from 0 to 1.

        Raises:
            ValueError: on another shape, values that are not finite, a shrinkage outside [0, 1], or
                samples whose covariance is singular: fewer than D + 1 of them, a constant feature,
                features that determine each other. Any shrinkage above 0 then helps, but for
                samples that are all the same.

        Example:
            >>> samples = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
            >>> Mahalanobis.estimate(samples).whitening  # variances 8/3 and 2/3
            tensor([[0.6124, 0.0000],
                    [0.0000, 1.2247]])

        References: the shrinkage target is Ledoit and Wolf's, J. Multivariate Analysis 88, 2004.
        """
        _checks.matrix("samples", samples)
        if not (isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1):
            _checks.fail("shrinkage", "a number from 0 to 1", shrinkage)
        count, size = samples.shape
        if count < 2 or not samples.isfinite().all():
            got = _checks.shape(samples) if count < 2 else "NaN or infinity"
            _checks.fail("samples", "two finite rows or more", got)
        # From the first sample on, so that a constant feature has a variance of exactly 0.
        exact = samples.detach().double() - samples[0].detach().double()
        covariance: Tensor = exact.mT.cov().reshape(size, size)
        scatter = covariance.trace() / size * torch.eye(size).to(covariance)
        covariance = (1 - shrinkage) * covariance + shrinkage * scatter
        # What rounding leaves of a feature that others determine: its variance, in eps squared.
        rank = _rank(_correlations(covariance), torch.finfo(samples.dtype).eps ** 2)
        if rank < size:
            _checks.fail(
                "samples",
                f"a spread in all {size} directions, or shrinkage above 0",
                f"a covariance of rank {rank} from {count} samples",
            )
        return cls(covariance).to(upcast(samples[:1]).dtype)

    @classmethod
    def learned(cls, size: int) -> "Mahalanobis":
        """A distance on rows of ``size`` features that is learned, from the Euclidean one on.

        Example:
            >>> distance = Mahalanobis.learned(2)
            >>> distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).item()
            5.0
        """
        _checks.whole("size", size)
        return cls(torch.eye(size), trainable=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., D), (..., D) -> (...), in float32, or float64 for float64 input."""
        return _length(self.whiten(_gap(x, y)))

    def whiten(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D): rows whose Euclidean distances are the Mahalanobis distances."""
        x = upcast(x)
        size = len(self.whitening)
        if x.ndim == 0 or x.shape[-1] != size:
            _checks.fail("x", f"shape (..., {size}), as the covariance", _checks.shape(x))
        whitening = self.whitening
        if self.factor is not None:
            triangle = self.factor.tril(-1) + self.factor.diagonal().exp().diag_embed()
            whitening = dot(triangle, whitening.mT)
        return dot(x[..., None, :], whitening.to(x.dtype))[..., 0, :]

    def extra_repr(self) -> str:
        """The number of features, and whether the distance is learned."""
        return f"size={len(self.whitening)}, trainable={self.factor is not None}"


def pairwise(distance: Distance, x: Tensor, y: Tensor) -> Tensor:
    """All distances between two sets of rows.

    The distances of this file are computed without an (N, M, D) copy. Equal rows are exactly 0
    apart, or a rounding where a matrix product is involved, in the cosine and the Mahalanobis
    distance. Any other callable is called on (N, M, D) views.

    All but the cosine distance are ``torch.cdist``, which has no second derivative. Wrapped in a
    lambda they count as any other callable, and have one.

    Args:
        distance: a distance of this file, or a callable (..., D), (..., D) -> (...).
        x: (N, D).
        y: (M, D).

    Returns:
        (N, M) in float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a callable that returns another shape.

    Example:
        >>> pairwise(euclidean, torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
        tensor([[0., 1.],
                [3., 2.]])
    """
    _checks.matrix("x", x)
    _checks.matrix("y", y, like=x)
    x, y = upcast(x), upcast(y)
    if distance is euclidean:
        return _cdist(x, y, 2)
    if distance is squared_euclidean:
        return _cdist(x, y, 2).square()
    if distance is manhattan:
        return _cdist(x, y, 1)
    if distance is chebyshev:
        return _cdist(x, y, math.inf)
    if distance is cosine_distance:
        return within(1 - dot(l2_normalize(x), l2_normalize(y)), 0, 2)
    if isinstance(distance, Mahalanobis):
        # Distances are the same from any origin; from one amidst the rows, few digits cancel.
        origin = y.detach().mean(0)
        return _cdist(distance.whiten(x - origin), distance.whiten(y - origin), 2)
    size = (len(x), len(y))
    found = distance(x[:, None].expand(*size, -1), y.expand(*size, -1))
    if found.shape != size:
        _checks.fail("distance", f"(N, M, D), (N, M, D) -> {size}", _checks.shape(found))
    return found


def within(x: Tensor, low: float, high: float) -> Tensor:
    """Take off what rounding put beyond a bound; the gradient is as if nothing had happened."""
    return x - (x - x.clamp(low, high)).detach()


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two floating (..., D) tensors whose leading axes broadcast, upcast."""
    for name, rows in (("x", x), ("y", y)):
        if not _checks.tensor(name, rows).is_floating_point():
            _checks.fail(name, "a floating dtype", rows.dtype)
        if rows.ndim == 0 or rows.shape[-1] == 0:
            _checks.fail(name, "shape (..., D) with at least one feature", _checks.shape(rows))
    axes = zip(reversed(x.shape[:-1]), reversed(y.shape[:-1]), strict=False)
    if x.shape[-1] != y.shape[-1] or any(a != b and 1 not in (a, b) for a, b in axes):
        _checks.fail("y", f"a shape like x's, {_checks.shape(x)}", _checks.shape(y))
    return upcast(x), upcast(y)


def _gap(x: Tensor, y: Tensor) -> Tensor:
    x, y = _pair(x, y)
    return x - y


def _length(x: Tensor) -> Tensor:
    """Euclidean length of rows, with derivatives of 0 at zero: a norm's second one is NaN there."""
    nonzero = (x != 0).any(-1)
    length = torch.linalg.vector_norm(torch.where(nonzero[..., None], x, 1), dim=-1)
    return torch.where(nonzero, length, 0)


def _cdist(x: Tensor, y: Tensor, order: float) -> Tensor:
    # By a matrix product, a row would be 1e-3 away from itself.
    distances: Tensor = torch.cdist(x, y, p=order, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _correlations(covariance: Tensor) -> Tensor:
    """A covariance with the features' units taken out of it."""
    variances = covariance.diagonal()
    scale = torch.where(variances > 0, variances, 1).sqrt()
    return covariance / scale / scale[:, None]


def _rank(correlations: Tensor, resolution: float) -> int:
    """In how many directions samples spread, to the resolution that their numbers have."""
    rounding = 10 * len(correlations) * torch.finfo(correlations.dtype).eps
    return int((torch.linalg.eigvalsh(correlations) > max(resolution, rounding)).sum())
