"""InfoNCE and its symmetric form, with one mistake each."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast.testing.broken.correct import (
    both_directions,
    cosines,
    each,
    mean,
    one_direction,
    unit,
)
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.traits import Loss, Traits
from mmcontrast.testing.vary import Vary


def sign_error(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The log-likelihood, not its negative."""
    return -both_directions(cosines(a, b) / temperature)


def similarity_as_distance(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """A softmax over the negated similarities."""
    return both_directions(-cosines(a, b) / temperature)


def positive_not_in_denominator(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The denominator has the negatives only."""
    logits = cosines(a, b) / temperature
    own = torch.eye(len(logits), dtype=torch.bool)
    negatives = logits.masked_fill(own, -torch.inf)
    return mean(negatives.logsumexp(1) - logits.diagonal()) if len(a) > 1 else logits.sum() * 0


def positive_left_in_denominator(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE, where a decoupled loss was meant."""
    return one_direction(cosines(a, b) / temperature)


def positive_twice_in_denominator(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The positive is appended to candidates that include it already."""
    logits = cosines(a, b) / temperature
    return one_direction(torch.cat([logits, logits.diagonal()[:, None]], dim=1))


def diagonal_off_by_one(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The positive of row i is column i + 1."""
    return one_direction((cosines(a, b) / temperature).roll(-1, 1))


def not_transposed(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Both directions are the same one."""
    logits = cosines(a, b) / temperature
    return (one_direction(logits) + one_direction(logits)) / 2


def not_halved(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The sum of both directions, not their mean."""
    logits = cosines(a, b) / temperature
    return one_direction(logits) + one_direction(logits.T)


def sum_for_mean(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """A sum over the anchors."""
    return each(cosines(a, b) / temperature).sum()


def mean_over_pairs(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """A mean over N^2 pairs of which N are not zero."""
    return one_direction(cosines(a, b) / temperature) / max(len(b), 1)


def not_normalized(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Raw dot products, declared to be cosines."""
    return both_directions(a @ b.T / temperature)


def normalized_over_the_batch(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The columns are normalised, not the rows."""
    return both_directions(F.normalize(a, dim=0) @ F.normalize(b, dim=0).T / temperature)


def one_input_normalized(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The second input is used as it is."""
    return one_direction(unit(a) @ b.to(unit(a).dtype).T / temperature)


def temperature_multiplies(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Multiplied by the temperature, not divided."""
    return both_directions(cosines(a, b) * temperature)


def temperature_in_one_direction(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The second direction lacks the temperature."""
    table = cosines(a, b)
    return (one_direction(table / temperature) + one_direction(table.T)) / 2


def naive_exponentials(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """exp() before log(), which overflows float32 at low temperatures."""
    shares = (cosines(a, b) / temperature).exp()
    return -mean((shares.diagonal() / shares.sum(1)).log())


def epsilon_in_the_logarithm(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """log(share + 1e-6): the loss saturates at 13.8, and its gradient vanishes."""
    shares = (cosines(a, b) / temperature).softmax(1).diagonal()
    return -mean((shares + 1e-6).log())


def epsilon_of_the_dtype(a: Tensor, b: Tensor) -> Tensor:
    """log(share + eps): the less precise the inputs, the earlier the loss saturates."""
    shares = (cosines(a, b) / 0.1).softmax(1).diagonal()
    return -mean((shares + torch.finfo(a.dtype).eps).log())


def softmax_twice(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Softmax outputs are passed to a function that expects logits."""
    return one_direction((cosines(a, b) / temperature).softmax(1))


def averaged_negatives(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The negatives' mean in place of their sum."""
    logits = cosines(a, b) / temperature
    n, c = logits.shape
    own = torch.eye(n, c, dtype=torch.bool)
    rest = logits.masked_fill(own, -torch.inf).logsumexp(1) - torch.tensor(max(c - 1, 1)).log()
    return mean(F.softplus(rest - logits.diagonal())) if c > 1 else logits.sum() * 0


def mean_over_features(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The mean of the products in place of their sum."""
    return both_directions(cosines(a, b) / temperature / a.shape[1])


def feature_statistics(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The features are scaled one by one before the cosine."""
    weights = torch.arange(1, a.shape[1] + 1, dtype=a.dtype)
    return both_directions(cosines(a * weights, b) / temperature)


def half_inside(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Logits in bfloat16, a result in the inputs' dtype."""
    return one_direction((cosines(a, b) / temperature).bfloat16().to(unit(a).dtype))


def clamped_logits(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Logits that are clamped to [-5, 5] against overflow."""
    return one_direction((cosines(a, b) / temperature).clamp(-5, 5))


def small_losses_left_out(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """The mean over the anchors whose loss is not small."""
    losses = each(cosines(a, b) / temperature)
    return losses.sum() / (losses > 0.05).sum().clamp_min(1)


def positional_weights(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Early samples have larger weights than late ones."""
    losses = each(cosines(a, b) / temperature)
    return mean(losses * torch.linspace(2, 0, len(a), dtype=losses.dtype))


def nan_for_zero_rows(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """A division by the norm, which may be 0."""
    a, b = (x.float() if x.itemsize < 4 else x for x in (a, b))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return both_directions(a @ b.T / temperature)


def mean_of_nothing(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """NaN for an empty batch, as from cross_entropy."""
    return F.cross_entropy(cosines(a, b) / temperature, torch.arange(len(a)))


def one_for_each(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """(N,) where a scalar is expected."""
    return each(cosines(a, b) / temperature)


def _claims(loss: Loss, *, symmetric: bool = True, rectangular: bool = False) -> Traits:
    return Traits(
        symmetric=symmetric,
        form="info_nce",
        temperature=0.1,
        rectangular=rectangular,
        factory=Vary(loss, "temperature"),
    )


def _symmetric(loss: Loss, wrong: str, law: str) -> Mistake:
    return Mistake(loss, wrong, law, _claims(loss))


def _asymmetric(loss: Loss, wrong: str, law: str, *, rectangular: bool = False) -> Mistake:
    return Mistake(loss, wrong, law, _claims(loss, symmetric=False, rectangular=rectangular))


PAIRED = (
    _symmetric(sign_error, "the sign", "nonnegative"),
    _symmetric(similarity_as_distance, "similarities negated", "partners_are_worth_less"),
    _asymmetric(positive_not_in_denominator, "no positive in the denominator", "nonnegative"),
    Mistake(
        positive_left_in_denominator,
        "decoupled, with the positive in the denominator",
        "positive_is_linear",
        Traits(decoupled=True, temperature=0.1, nonnegative=False, smallest=2),
    ),
    _asymmetric(positive_twice_in_denominator, "the positive counted twice", "collapse_value"),
    _asymmetric(diagonal_off_by_one, "targets off by one", "partners_are_worth_less"),
    _symmetric(not_transposed, "the second direction is the first", "symmetric"),
    _symmetric(not_halved, "two directions summed", "duplicated_batch"),
    _asymmetric(sum_for_mean, "a sum for a mean", "duplicated_batch"),
    _asymmetric(mean_over_pairs, "a mean over N^2 pairs", "collapse_value"),
    _symmetric(not_normalized, "no normalisation", "row_scale_invariant"),
    _symmetric(normalized_over_the_batch, "the wrong axis normalised", "row_scale_invariant"),
    _asymmetric(one_input_normalized, "one input not normalised", "gradient_falls_with_length"),
    _symmetric(temperature_multiplies, "times the temperature", "low_temperature_limit"),
    _symmetric(
        temperature_in_one_direction, "one direction without temperature", "temperature_divides"
    ),
    _asymmetric(naive_exponentials, "exp() before log()", "finite_at_any_temperature"),
    _asymmetric(epsilon_in_the_logarithm, "an epsilon in the logarithm", "low_temperature_limit"),
    Mistake(
        epsilon_of_the_dtype,
        "an epsilon that the dtype chooses",
        "low_precision_is_close",
        Traits(form="info_nce", temperature=0.1),
    ),
    _asymmetric(softmax_twice, "a softmax of a softmax", "low_temperature_limit"),
    _asymmetric(
        averaged_negatives, "negatives averaged", "more_negatives_cost_more", rectangular=True
    ),
    _symmetric(mean_over_features, "a mean over the features", "zero_padding_invariant"),
    _symmetric(feature_statistics, "features weighted", "rotation_invariant"),
    _asymmetric(half_inside, "bfloat16 inside", "gradcheck"),
    _asymmetric(clamped_logits, "logits clamped", "equals_its_formula"),
    _asymmetric(small_losses_left_out, "small losses left out of the mean", "duplicated_batch"),
    _asymmetric(positional_weights, "a weight by position", "permutation_invariant"),
    _symmetric(nan_for_zero_rows, "a division by zero", "zero_row_is_finite"),
    Mistake(
        mean_of_nothing,
        "the mean of nothing",
        "empty_batch",
        replace(_claims(mean_of_nothing, symmetric=False), empty="either"),
    ),
    _asymmetric(one_for_each, "no reduction", "returns_a_scalar"),
)
