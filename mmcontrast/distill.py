"""Distillation: match a student's softmax over the features to a teacher's."""

import math

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.held import check_settings
from mmcontrast.reductions import Reduction
from mmcontrast.rows import upcast
from mmcontrast.sharded import local_rows
from mmcontrast.wide import retry_in_float64

DIRECTIONS = ("teacher_student", "student_teacher")


@local_rows
@retry_in_float64
def kl_distill(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    direction: str = "teacher_student",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    group: Group | None = None,
) -> Tensor:
    r"""Kullback-Leibler divergence between a teacher's features and a student's.

    With :math:`P = \mathrm{softmax}(x / \tau)` of the teacher, Q that of the student,

    .. math:: \ell_i = \tau^2 \sum_k P_{ik} (\log P_{ik} - \log Q_{ik})

    It is 0 where the two are equal up to a constant for each row, and above 0 elsewhere (a
    difference below a float's precision is none). As the temperature grows it approaches half the
    mean squared difference of the rows, each row's mean subtracted. The teacher gets no gradient.

    Logits of minus infinity are shares of 0, and add nothing where P is 0. Where Q is 0 and P is
    not, the divergence is infinite, and its gradient finite: there, it is that of the other terms.

    Args:
        student: (B, D) rows, or (B, T, D) sequences.
        teacher: the same shape.
        temperature: :math:`\tau > 0`.
        direction: ``"teacher_student"``, the divergence of the student from the teacher, as above;
            or ``"student_teacher"``, with P and Q exchanged.
        mask: (B,) for rows, (B, T) for sequences: what takes part. A sequence's value is the mean
            over its real steps; without any it is 0 and not counted. The rest affects neither value
            nor gradient.
        weight: (B,) sample weights.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).
        group: a process group, or ``"world"``: mean and sum are those of all its ranks' samples,
            the same on every rank; see :func:`gather`. None: this rank alone.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, a temperature that is not a number above 0,
            or another word for direction.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> kl_distill(student, teacher), kl_distill(student, teacher, direction="student_teacher")
        (tensor(0.3278), tensor(0.4338))

    Note:
        Equals ``torch.nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1),
        reduction="batchmean")`` on one or more rows at temperature 1. MFON prints the direction
        "student_teacher", and its code computes the other.

    References: Hinton et al., arXiv:1503.02531, for the temperature; MFON, COLING 2025, eq. 6.
    """
    if arguments.tensor("student", student).ndim not in (2, 3) or student.shape[-1] == 0:
        arguments.fail(
            "student", "shape (B, D) or (B, T, D), at least one feature", arguments.shape(student)
        )
    if arguments.tensor("teacher", teacher).shape != student.shape:
        arguments.fail("teacher", f"shape {arguments.shape(student)}", arguments.shape(teacher))
    for name, x in (("student", student), ("teacher", teacher)):
        if not x.is_floating_point():
            arguments.fail(name, "a floating dtype", x.dtype)
    arguments.positive("temperature", temperature)
    arguments.one_of("direction", direction, DIRECTIONS)
    arguments.reduction(reduction)
    if mask is None:
        mask = torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device)
    arguments.mask("mask", mask, tuple(student.shape[:-1]))

    log_q, log_p = (
        (torch.where(mask[..., None], upcast(x), 0) / temperature).log_softmax(-1)
        for x in (student, teacher.detach())
    )
    if direction == "student_teacher":
        log_p, log_q = log_q, log_p
    losses = temperature**2 * _divergence(log_p, log_q)
    counted = mask
    if losses.ndim == 2:
        losses = losses.sum(1) / mask.sum(1).clamp_min(1)  # steps outside the mask are 0
        counted = mask.any(1)
    return Reduction(reduction, weight, group).reduce(losses, counted)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of log-probabilities, accurate where the two are close.

    As :math:`\sum_k P - Q = 0`, it is :math:`\sum_k P (e^g - 1 - g)` with :math:`g = \log Q/P`, a
    sum of terms that are never negative. The plain sum cancels: a divergence of 1e-6 would have no
    correct digit in float32, and a high temperature multiplies the error.
    """
    p = log_p.exp()
    shared = p > 0
    gap = torch.where(shared, log_q - log_p, 0)  # where P = 0, P log(Q / P) is 0: not 0 * inf
    near = shared & (gap.abs() < 1)
    small = torch.where(near, gap, 0)
    # Where Q = 0 < P, the gap is minus infinity, and so would be the gradient by P.
    factor = torch.where(gap > -math.inf, p, p.detach())
    excess = torch.where(near, p * (small.expm1() - small), log_q.exp() - p - factor * gap)
    return excess.sum(-1)


class KLDistill(nn.Module):
    """:func:`kl_distill` with its settings held.

    Args:
        temperature, direction, reduction, group: as in :func:`kl_distill`.

    Example:
        >>> KLDistill(temperature=2.0)(torch.zeros(1, 2), torch.ones(1, 2))
        tensor(0.)
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        direction: str = "teacher_student",
        reduction: str = "mean",
        group: Group | None = None,
    ):
        super().__init__()
        self.temperature = temperature
        self.direction = direction
        self.reduction = reduction
        self.group = group
        arguments.positive("temperature", temperature)
        arguments.one_of("direction", direction, DIRECTIONS)
        check_settings(self)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`kl_distill`."""
        return kl_distill(
            student,
            teacher,
            temperature=self.temperature,
            direction=self.direction,
            mask=mask,
            weight=weight,
            reduction=self.reduction,
            group=self.group,
        )
