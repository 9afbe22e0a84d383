"""Checks of callers' arguments, all with the message ``name: expected X, got Y``."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from reprlib import Repr
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

SHORT = Repr()
SHORT.maxother = SHORT.maxstring = 60

REDUCTIONS = ("mean", "sum", "none")


def fail(name: str, expected: str, got: object) -> NoReturn:
    """Raise the ValueError for a caller's argument."""
    raise ValueError(f"{name}: expected {expected}, got {got}")


def shape(x: Tensor) -> str:
    """The shape as messages print it: ``(3, 5)``."""
    return f"({', '.join(map(str, x.shape))}{',' if x.ndim == 1 else ''})"


def shown(value: object) -> str:
    """What came, short however long it is: a tensor by shape and dtype, a Module by its class."""
    if isinstance(value, Tensor):
        return f"{shape(value)} {value.dtype}" if value.ndim else str(value.detach())
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} {value.dtype}"
    if isinstance(value, nn.Module):
        return f"the Module {type(value).__name__}"
    return SHORT.repr(value)


def tensor(name: str, x: object) -> Tensor:
    """A tensor of any shape and dtype."""
    if not isinstance(x, Tensor):
        fail(name, "a tensor", type(x).__name__)
    return x


def matrix(name: str, x: Tensor, *, rows: int | None = None, like: Tensor | None = None) -> None:
    """A floating (rows, D) tensor with D >= 1; ``like``: a tensor with the D to match."""
    tensor(name, x)
    if x.ndim != 2 or x.shape[1] == 0:
        fail(name, f"shape {_axes(rows, like)} with at least one feature", shape(x))
    if not x.is_floating_point():
        fail(name, "a floating dtype", x.dtype)
    if (rows is not None and x.shape[0] != rows) or (
        like is not None and x.shape[1:] != like.shape[1:]
    ):
        fail(name, f"shape {_axes(rows, like)}", shape(x))


def _axes(rows: int | None, like: Tensor | None) -> str:
    return f"({'rows' if rows is None else rows}, {'D' if like is None else like.shape[1]})"


def table(name: str, x: Tensor) -> None:
    """A floating (B, C) tensor; B and C may be 0."""
    if tensor(name, x).ndim != 2:
        fail(name, "shape (B, C)", shape(x))
    if not x.is_floating_point():
        fail(name, "a floating dtype", x.dtype)


def vector(name: str, x: Tensor, size: int) -> None:
    """A tensor of shape (size,)."""
    if tensor(name, x).shape != (size,):
        fail(name, f"shape ({size},)", shape(x))


def labels(name: str, x: Tensor, size: int) -> Tensor:
    """One class for each sample, (size,), or several, (size, L): see :func:`classes`."""
    columns(name, x, size, "L")
    return classes(name, x)


def columns(name: str, x: Tensor, size: int, axis: str) -> None:
    """One number for each sample, (size,), or several, (size, axis)."""
    if tensor(name, x).ndim not in (1, 2) or len(x) != size:
        fail(name, f"shape ({size},) or ({size}, {axis})", shape(x))


def classes(name: str, x: Tensor) -> Tensor:
    """Class labels in a dtype that holds -100 and compares exactly: int64, or whole floats.

    Fractions are scores, each of which would be a class of its own. NaN means unlabelled.
    """
    if x.is_complex():
        fail(name, "classes, whole numbers", x.dtype)
    if not x.is_floating_point():
        return x.long()  # bool and uint8 have no -100, and of uint16 few operations exist
    fractions = x.isfinite() & (x != x.round())
    if _some(fractions):
        first = x[fractions].flatten()[0].item()
        fail(
            name,
            "classes, whole numbers (of scores, sentiment_classes makes classes, close_scores and "
            "score_kernel make positives, and rank_n_contrast is a loss)",
            f"{first:.6g}",
        )
    return x


def _some(condition: Tensor) -> bool:
    """Whether any entry is True, where that can be read: on the CPU, and not under a compiler.

    On other devices, reading would wait for the device.
    """
    if not condition.is_cpu or torch.compiler.is_compiling():
        return False
    try:
        return bool(condition.any())
    except RuntimeError:  # under vmap or a fake tensor mode there are no values to read
        return False


def mask(name: str, x: Tensor, like: tuple[int, ...], *, weights: bool = False) -> None:
    """A bool tensor of shape ``like``; with ``weights``, a floating one as well."""
    if tensor(name, x).shape != like:
        fail(name, f"shape ({', '.join(map(str, like))}{',' if len(like) == 1 else ''})", shape(x))
    if x.dtype != torch.bool and not (weights and x.is_floating_point()):
        fail(name, "a bool mask" + (" or floating weights" if weights else ""), x.dtype)


def weights(name: str, x: Tensor, like: tuple[int, ...], keep: Tensor | None = None) -> None:
    """A bool mask of shape ``like``, or floating weights of at least 0 where ``keep`` is True."""
    mask(name, x, like, weights=True)
    if x.is_floating_point():
        negative = x < 0 if keep is None else (x < 0) & keep
        if _some(negative):
            fail(name, "weights of at least 0", f"{x[negative].min().item():.6g}")


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """One of the named choices."""
    if value not in choices:
        fail(name, f"one of {', '.join(repr(c) for c in choices)}", repr(value))


def is_number(value: object) -> bool:
    """A finite number of Python's or NumPy's; no bool and no tensor."""
    if type(value) is float or type(value) is int:  # first, as it is quick and the usual case
        return -math.inf < value < math.inf
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def number(name: str, value: object, expected: str = "a number") -> None:
    """A finite number of Python's or NumPy's."""
    if not is_number(value):
        fail(name, expected, shown(value))


def floating_dtype(name: str, value: object, *, also: str = "") -> None:
    """A floating dtype; ``also`` says what else would do."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        fail(name, "a floating dtype" + (f" or {also}" if also else ""), shown(value))


def positive(name: str, value: float) -> None:
    """A number above zero."""
    if not is_number(value) or not value > 0:
        fail(name, "a number above 0", shown(value))


def probability(value: float) -> None:
    """A number from 0 to 1."""
    if isinstance(value, Tensor) or not 0 <= value <= 1:
        fail("probability", "a number in [0, 1]", repr(value))


def whole(name: str, value: int) -> None:
    """An int of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        fail(name, "an int of at least 1", repr(value))


def fits(name: str, value: int, dtype: torch.dtype) -> None:
    """An int that an integer dtype can hold."""
    limits = torch.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        fail(name, f"{limits.min} to {limits.max}, what {dtype} holds", value)


def temperature(value: float | Tensor) -> None:
    """A float above zero, or a 0-d floating tensor (a learned one: its value is not read)."""
    if not isinstance(value, Tensor):
        positive("temperature", value)
    elif value.ndim != 0 or not value.is_floating_point():
        fail(
            "temperature",
            "a number above 0 or a 0-d floating tensor",
            f"{shape(value)} {value.dtype}",
        )


def targets(name: str, x: Tensor, rows: int, size: int, *, ignore: int) -> Tensor:
    """Integer (rows,) indices below ``size``, or ``ignore``, as int64; values read on the CPU only.

    int64, because in a small dtype ``size`` and what is added to an index can overflow.
    """
    vector(name, x, rows)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        fail(name, "integer indices", x.dtype)
    x = x.long()
    if _some(((x < 0) | (x >= size)) & (x != ignore)):
        fail(name, f"indices from 0 to {size - 1}, or {ignore} for none", x.tolist())
    return x


def features(features: Mapping[str, Tensor]) -> None:
    """At least two modalities, each a floating (B, D) tensor, B and D shared."""
    if not isinstance(features, Mapping):
        fail("features", "a mapping of modality to (B, D)", type(features).__name__)
    if len(features) < 2:
        fail("features", "at least two modalities", list(features))
    first: Tensor | None = None
    for name, x in features.items():
        matrix(f"features[{name!r}]", x, rows=None if first is None else len(first), like=first)
        first = x if first is None else first


def reduction(value: str) -> None:
    """One of the three reductions."""
    one_of("reduction", value, REDUCTIONS)
