"""Low precision, autocast, and rows of zeros."""

import torch
from torch import Tensor

from mmcontrast.testing import draws
from mmcontrast.testing.batch import Batch
from mmcontrast.testing.lacking import lacking
from mmcontrast.testing.registry import check, generic
from mmcontrast.testing.subject import LawBroken, Subject, demand, demand_close, show
from mmcontrast.testing.traits import rounding


def usable(x: Tensor) -> bool:
    """Whether rounding left all rows finite and none of them zero."""
    return bool(x.isfinite().all() and (x != 0).any(1).all())


@check("24")
def low_precision_is_close(subject: Subject, batch: Batch) -> None:
    """In each dtype the value is that of float64 on the same rounded inputs, up to rounding.

    exp() before log(), an epsilon that underflows in the dtype or that saturates the loss, anchors
    that are left out of the mean because their loss underflows to 0, or masks filled with -1e9.
    """
    lacked = None
    for dtype in subject.traits.dtypes:
        low = batch.to(dtype)
        if not all(usable(x) for x in low.rows.values()):
            continue
        try:
            value = subject.tensor(low).detach()
        except (RuntimeError, NotImplementedError) as error:
            if lacking(error) is None:
                raise
            lacked = error
            continue
        exact = subject.value(low.to(torch.float64))
        demand(value.isfinite(), f"in {dtype} the loss is {show(value)}")
        tolerance = subject.traits.tolerance(dtype)
        demand_close(value, exact, tolerance, f"{dtype}: {show(value)} vs float64 {show(exact)}")
    if lacked is not None:  # of one dtype; the others are checked
        raise lacked


@check("24", batches=generic)
def float32_gradients_are_close(subject: Subject, batch: Batch) -> None:
    """float32 gradients are those of float64 on the same inputs, up to rounding.

    A correct value with a gradient that underflowed, or that a clamp set to 0.
    """
    low = batch.to(torch.float32)
    _, gradients = subject.gradients(low)
    _, exact = subject.gradients(low.to(torch.float64))
    temperature = subject.traits.temperature or 0.07
    for name, expected in exact.items():
        longest = 1 / low.rows[name].double().norm(dim=1).min().item()
        reach = (1 + 1 / temperature) * max(1.0, longest) if subject.traits.normalized else 1
        allowed = rounding(torch.float32, temperature) * (1 + expected.abs().max().item() + reach)
        apart = (gradients[name].double() - expected).abs().max().item()
        if not apart <= allowed:
            raise LawBroken(
                f"the gradient of {name} is {gradients[name].tolist()} in float32, "
                f"{expected.tolist()} in float64"
            )


@check(
    "23",
    when=lambda t: not t.unit,
    needs="not unit",
    batches=generic,
    draws={"i": draws.sample, "name": draws.chosen_name},
)
def zero_row_is_finite(subject: Subject, batch: Batch, i: int, name: str) -> None:
    """A row of zeros, as a missing modality is, gives a finite value and gradient in every dtype.

    A division by the row's norm; in float16 an epsilon of 1e-12 is 0, so that F.normalize gives
    NaN. Convert to float32 before normalising.
    """
    for dtype in (torch.float64, *subject.traits.dtypes):
        low = batch.to(dtype)
        x = low.rows[name].clone()
        x[i] = 0
        try:
            subject.gradients(low.with_rows({**low.rows, name: x}))
        except LawBroken as error:
            raise LawBroken(f"with a row of zeros in {dtype}, {error}") from error


@check("24")
def autocast_is_close(subject: Subject, batch: Batch) -> None:
    """bfloat16 autocast does not change the value for float32 inputs, up to rounding.

    A matrix product under autocast rounds the logits, and a following exp() or division amplifies
    the error; a mask of -1e9 may become -inf.
    """
    low = batch.to(torch.float32)
    outside = subject.value(low)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = subject.value(low)
        subject.gradients(low)
    tolerance = rounding(torch.bfloat16, subject.traits.temperature)
    message = f"under autocast the loss is {show(inside)}, outside {show(outside)}"
    demand_close(inside, outside, tolerance, message)
