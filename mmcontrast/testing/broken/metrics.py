"""Distances with one mistake each."""

import math
from typing import Any

import torch
from torch import Tensor

from mmcontrast.distances import cosine_distance, euclidean, manhattan, squared_euclidean
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, as_traits


def mean_of_pairs(x: Tensor, y: Tensor) -> Tensor:
    """One number for the whole batch."""
    return euclidean(x, y).mean()


def similarity_for_distance(x: Tensor, y: Tensor) -> Tensor:
    """A cosine, which is large for close rows."""
    return 1 - cosine_distance(x, y)


def centred_distances(x: Tensor, y: Tensor) -> Tensor:
    """The batch's mean is subtracted, so that some pairs are less than nothing apart."""
    found: Tensor = euclidean(x, y)
    return found - found.mean()


def relative_to_the_first(x: Tensor, y: Tensor) -> Tensor:
    """In units of the length of x."""
    found: Tensor = euclidean(x, y) / (1 + torch.linalg.vector_norm(x, dim=-1))
    return found


def product_for_difference(x: Tensor, y: Tensor) -> Tensor:
    """The root of |x|^2 + |y|^2 - 2 x.y, of which equal rows leave the rounding."""
    squared = x.square().sum(-1) + y.square().sum(-1) - 2 * (x * y).sum(-1)
    floor = torch.finfo(squared.dtype).eps
    found: Tensor = squared.clamp_min(floor).sqrt()
    return found


def last_feature_unread(x: Tensor, y: Tensor) -> Tensor:
    """One feature is left out."""
    return manhattan(x[..., :-1], y[..., :-1]) if x.shape[-1] > 1 else manhattan(x, y)


def cosine_as_a_metric(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos: right, but for the claim."""
    return cosine_distance(x, y)


def on_the_sphere(x: Tensor, y: Tensor) -> Tensor:
    """Rows are normalised first."""
    return cosine_distance(x, y)


def first_normalized(x: Tensor, y: Tensor) -> Tensor:
    """Only x is normalised."""
    length = x.norm(dim=-1, keepdim=True)
    return euclidean(x / torch.where(length > 0, length, 1), y)


def manhattan_turned(x: Tensor, y: Tensor) -> Tensor:
    """Absolute values for squares."""
    return manhattan(x, y)


def root_with_epsilon(x: Tensor, y: Tensor) -> Tensor:
    """An epsilon under the root."""
    return (squared_euclidean(x, y) + 1e-3).sqrt()


def share_of_the_largest(x: Tensor, y: Tensor) -> Tensor:
    """Divided by the largest distance of the batch."""
    found = euclidean(x, y)
    return found / (1 + found.detach().max())


def plain_root(x: Tensor, y: Tensor) -> Tensor:
    """The root of a sum of squares, whose slope at 0 is infinite."""
    return (x - y).square().sum(-1).sqrt()


def weights_detached(x: Tensor, y: Tensor) -> Tensor:
    """A square with one factor detached: half of its gradient."""
    return ((x - y).detach() * (x - y)).sum(-1)


def bfloat16_inside(x: Tensor, y: Tensor) -> Tensor:
    """Differences of float32 rows in bfloat16."""
    if x.dtype == torch.float64:
        return euclidean(x, y)
    return euclidean(x.bfloat16(), y.bfloat16()).to(x.dtype)


def angle_in_degrees(x: Tensor, y: Tensor) -> Tensor:
    """In degrees where radians are declared."""
    unit_half = (cosine_distance(x, y) / 2).clamp(1e-12, 1 - 1e-12)
    return 2 * unit_half.sqrt().asin() * 180 / math.pi


def without_the_root(x: Tensor, y: Tensor) -> Tensor:
    """A squared distance for a distance."""
    return squared_euclidean(x, y)


def centred_in_place(x: Tensor, y: Tensor) -> Tensor:
    """Subtracts the mean of a row from it, in place."""
    with torch.no_grad():
        x -= x.mean(dim=-1, keepdim=True)
    return euclidean(x, y)


def _apart(loss: Loss, wrong: str, law: str, **claims: Any) -> Mistake:
    stated = {"kind": "distance", "metric": False, **claims}
    return Mistake(loss, wrong, law, as_traits(stated))


METRICS = (
    _apart(mean_of_pairs, "a mean that is left in", "distance_is_one_number_a_pair"),
    _apart(similarity_for_distance, "a cosine", "distance_is_nonnegative"),
    _apart(centred_distances, "a mean subtracted", "distance_is_nonnegative"),
    _apart(relative_to_the_first, "a division by one side", "distance_is_symmetric"),
    _apart(product_for_difference, "a product for a difference", "distance_to_itself_is_zero"),
    _apart(last_feature_unread, "a feature left out", "distinct_rows_are_apart", metric=True),
    _apart(cosine_as_a_metric, "1 - cos called a metric", "triangle_inequality", metric=True),
    _apart(
        on_the_sphere,
        "rows normalised first",
        "distance_ignores_the_origin",
        translation_invariant=True,
    ),
    _apart(first_normalized, "one side normalised", "distance_ignores_row_scales", normalized=True),
    _apart(
        manhattan_turned,
        "absolute values for squares",
        "distance_ignores_rotations",
        rotation_invariant=True,
    ),
    _apart(root_with_epsilon, "an epsilon under the root", "distance_scales_with_rows", degree=1.0),
    _apart(share_of_the_largest, "a maximum over the batch", "distance_pairs_do_not_meet"),
    _apart(plain_root, "a root at 0", "distance_gradient_is_finite"),
    _apart(weights_detached, "a factor detached", "distance_gradient_is_its_slope"),
    _apart(bfloat16_inside, "bfloat16 inside", "distance_is_close_in_every_dtype"),
    _apart(
        angle_in_degrees, "degrees for radians", "distance_within_bounds", bounds=(0.0, math.pi)
    ),
    _apart(without_the_root, "no root", "distance_equals_its_reference", reference=euclidean),
    _apart(centred_in_place, "writes to its rows", "distance_leaves_its_inputs"),
)
