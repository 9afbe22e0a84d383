"""Checks of callers' arguments, all with the message ``name: expected X, got Y``.

Where what came is known to mean something else, :mod:`mmcontrast.advice` adds what to call instead.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from reprlib import Repr
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from mmcontrast.advice import NO_IDS, bool_instead, mask_instead, rows_instead

SHORT = Repr()
SHORT.maxother = SHORT.maxstring = 60

REDUCTIONS = ("mean", "sum", "none")

SCALAR = "a floating tensor of shape () or (1,)"
"""A learned number, as errors say it."""

_LARGEST, _LONGEST = sys.float_info.max, 2**63 - 1  # of a float, and of an index


def fail(name: str, expected: str, got: object) -> NoReturn:
    """Raise the ValueError for a caller's argument."""
    raise ValueError(f"{name}: expected {expected}, got {got}")


def shape(x: Tensor) -> str:
    """The shape as messages print it: ``(3, 5)``."""
    return f"({', '.join(map(str, x.shape))}{',' if x.ndim == 1 else ''})"


def shown(value: object) -> str:
    """What came, short however long it is: a tensor by shape and dtype, a Module by its class."""
    if isinstance(value, Tensor):
        if value.is_nested:  # it has no shape
            return "a nested tensor"
        return f"{shape(value) if value.ndim else repr(value.detach())} {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} {value.dtype}"
    if isinstance(value, nn.Module):
        return f"the Module {type(value).__name__}"
    if isinstance(value, int) and abs(value) > _LONGEST:  # Python refuses to write very long ones
        return f"a whole number of {value.bit_length()} bits"
    return SHORT.repr(value)


def tensor(name: str, x: object) -> Tensor:
    """A dense tensor of any shape and dtype."""
    if not isinstance(x, Tensor):
        fail(name, "a tensor", type(x).__name__)
    if x.layout != torch.strided or x.is_nested or x.is_quantized:
        kind = "nested" if x.is_nested else "quantized" if x.is_quantized else x.layout
        fail(name, "a dense tensor", kind)
    return x


def matrix(name: str, x: Tensor, *, rows: int | None = None, like: Tensor | None = None) -> None:
    """A floating (rows, D) tensor with D >= 1; ``like``: a tensor with the D to match."""
    tensor(name, x)
    if x.ndim != 2 or x.shape[1] == 0:
        expected = f"shape {_axes(rows, like)} with at least one feature"
        fail(name, expected, shape(x) + rows_instead(name, x, rows, like))
    if not x.is_floating_point():
        fail(name, "a floating dtype", f"{x.dtype}{NO_IDS}")
    if (rows is not None and x.shape[0] != rows) or (
        like is not None and x.shape[1:] != like.shape[1:]
    ):
        fail(name, f"shape {_axes(rows, like)}", shape(x) + rows_instead(name, x, rows, like))


def rows_or_array(name: str, x: Tensor | np.ndarray[Any, Any], like: Tensor) -> None:
    """A floating (C, D) tensor, or such an array of NumPy's, with the D of a tensor."""
    if not isinstance(x, np.ndarray):
        matrix(name, x, like=like)
        return
    if x.ndim != 2 or x.shape[1] != like.shape[1]:
        fail(name, f"shape {_axes(None, like)}", shown(x))
    if x.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        fail(name, "an array of float16, float32 or float64", shown(x))


def floating_rows(name: str, x: Tensor) -> None:
    """A floating (..., D) tensor with D >= 1; of a DTensor, each row on one rank as a whole."""
    if not tensor(name, x).is_floating_point():
        fail(name, "a floating dtype", x.dtype)
    # A rank without any of the features has nothing to take a row's maximum of.
    places: Iterable[Any] = getattr(x, "placements", ())
    if any(place.is_shard(x.ndim - 1) for place in places):
        instead = "x.redistribute(...) or x.full_tensor() puts them together"
        fail(name, "a DTensor with whole rows", f"one placed {places} ({instead})")
    if x.ndim == 0 or x.shape[-1] == 0:
        fail(name, "shape (..., D) with at least one feature", shape(x))


def _axes(rows: int | None, like: Tensor | None) -> str:
    return f"({'rows' if rows is None else rows}, {'D' if like is None else like.shape[1]})"


def table(name: str, x: Tensor) -> None:
    """A floating (B, C) tensor; B and C may be 0."""
    if tensor(name, x).ndim != 2:
        fail(name, "shape (B, C)", shape(x))
    if not x.is_floating_point():
        fail(name, "a floating dtype", x.dtype)


def vector(name: str, x: Tensor, size: int) -> None:
    """A tensor of shape (size,), of real numbers."""
    if tensor(name, x).shape != (size,):
        column = f" (a column; {name}.squeeze(1) fits)" if x.shape == (size, 1) else ""
        fail(name, f"shape ({size},)", shape(x) + column)
    if x.is_complex():
        fail(name, "real numbers", x.dtype)


def labels(name: str, x: Tensor, size: int, *, like: Tensor | None = None) -> Tensor:
    """One class for each sample, (size,), or several, (size, L): see :func:`classes`.

    ``like``: labels with the L to match; (size,) is an L of 1.
    """
    columns(name, x, size, "L")
    if like is not None and like.shape[1:] != x.shape[1:]:
        expected, got = (v.shape[1] if v.ndim == 2 else 1 for v in (like, x))
        if expected != got:
            fail(name, f"{expected} labels a sample, like labels", got)
    return classes(name, x)


def columns(name: str, x: Tensor, size: int, axis: str) -> None:
    """One number for each sample, (size,), or several, (size, axis)."""
    if tensor(name, x).is_complex():
        fail(name, "real numbers", x.dtype)
    if x.ndim not in (1, 2) or x.shape[0] != size:
        fail(name, f"shape ({size},) or ({size}, {axis})", shape(x))


def classes(name: str, x: Tensor) -> Tensor:
    """Class labels in a dtype that holds -100 and compares exactly: int64, or whole floats.

    Fractions are scores, each of which would be a class of its own. NaN means unlabelled.
    """
    if x.is_complex():
        fail(name, "classes, whole numbers", x.dtype)
    if not x.is_floating_point():
        return x.long()  # bool and uint8 have no -100, and of uint16 few operations exist
    x = x.float() if x.element_size() == 1 else x  # as of float8
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
        expected = f"shape ({', '.join(map(str, like))}{',' if len(like) == 1 else ''})"
        fail(name, expected, shape(x) + mask_instead(name, x, like))
    if x.dtype != torch.bool and not (weights and x.is_floating_point()):
        kinds = "a bool mask" + (" or floating weights" if weights else "")
        fail(name, kinds, f"{x.dtype}{bool_instead(name, x)}")


def weights(name: str, x: Tensor, like: tuple[int, ...], keep: Tensor | None = None) -> None:
    """A bool mask of shape ``like``, or floating weights of at least 0 where ``keep`` is True."""
    mask(name, x, like, weights=True)
    # The smallest of all first: a mask of the negative ones takes ten times as long.
    if x.is_floating_point() and x.numel() > 0 and _some(~(x.amin() >= 0)):
        negative = x < 0 if keep is None else (x < 0) & keep
        if _some(negative):
            fail(name, "weights of at least 0", f"{x[negative].min().item():.6g}")


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """One of the named choices."""
    known = list(choices)
    # Arrays compare entry by entry, and have no answer.
    if isinstance(value, Tensor | np.ndarray) or value not in known:
        fail(name, f"one of {', '.join(repr(c) for c in known)}", shown(value))


def word(name: str, value: object) -> None:
    """A str."""
    if not isinstance(value, str):
        fail(name, "a str", shown(value))


def flag(name: str, value: object) -> bool:
    """True or False, as Python's."""
    if not isinstance(value, bool | np.bool_):
        fail(name, "True or False", shown(value))
    return bool(value)


def mapping(name: str, value: object, of: str) -> Mapping[str, Any]:
    """A mapping, of names to what ``of`` says."""
    if not isinstance(value, Mapping):
        fail(name, f"a mapping of {of}", shown(value))
    return value


def device(value: object) -> torch.device:
    """A device by its name; a number is another device, or an error of its own, in each build."""
    try:
        if isinstance(value, str):
            return torch.device(value)
    except RuntimeError:
        pass
    fail("device", "a torch.device or its name", shown(value))


def generator(value: object) -> None:
    """A ``torch.Generator``, or None."""
    if value is not None and not isinstance(value, torch.Generator):
        fail("generator", "a torch.Generator or None", shown(value))


def function(name: str, value: object, expected: str) -> None:
    """A callable; a class is none, because calling it makes an object."""
    if not callable(value) or isinstance(value, type):
        fail(name, expected, shown(value))


def called(name: str, value: Callable[..., Any], expected: str, *inputs: Tensor) -> Any:
    """What a caller's function returns; an error of ours where it takes another number of inputs.

    Errors inside the function are the caller's, and pass.
    """
    function(name, value, expected)
    try:
        return value(*inputs)
    except TypeError:
        if takes(value, len(inputs)):
            raise
    fail(name, expected, f"{shown(value)}, which takes another number of arguments")


def accepting(name: str, value: Any, expected: str, number: int) -> None:
    """A callable of so many arguments."""
    function(name, value, expected)
    if not takes(value, number):
        fail(name, expected, shown(value))


def takes(value: Callable[..., Any], number: int) -> bool:
    """Whether a callable can be called with so many arguments, as far as its signature tells."""
    if torch.compiler.is_compiling():  # which cannot trace a signature
        return True
    try:
        called = value.forward if isinstance(value, nn.Module) else value
        inspect.signature(called).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # builtin functions without a signature
        return True
    return True


def is_number(value: object) -> bool:
    """A finite number of Python's or NumPy's; no bool and no tensor."""
    if type(value) is float or type(value) is int:  # first, as it is quick and the usual case
        return -_LARGEST <= value <= _LARGEST
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False  # a Fraction, too, which torch takes nowhere
    return math.isfinite(value)


def number(name: str, value: object, expected: str = "a number") -> None:
    """A finite number of Python's or NumPy's."""
    if not is_number(value):
        fail(name, expected, _no_number(name, value))


def _no_number(name: str, value: object) -> str:
    """What came in the place of a number; of a Module, how to get its number."""
    call = f" (call it: {name}=module())" if isinstance(value, nn.Module) else ""
    return shown(value) + call


def number_or_scalar(name: str, value: float | Tensor) -> float | Tensor:
    """A number, or a learned one: :func:`zero_dimensional`."""
    if isinstance(value, Tensor):
        return zero_dimensional(name, value, "a number")
    number(name, value, f"a number or {SCALAR}")
    return value


def zero_dimensional(name: str, x: Tensor, otherwise: str) -> Tensor:
    """A floating tensor of shape () or (1,) as one of shape (); its value is not read.

    Parameters have shape (1,), because FSDP2 takes none without a dimension to shard.
    """
    if x.ndim > 1 or x.numel() != 1 or not x.is_floating_point():
        fail(name, f"{otherwise} or {SCALAR}", shown(x))
    on_every_rank(name, x)
    return x.reshape(()) if x.ndim else x


def on_every_rank(name: str, x: Tensor) -> None:
    """A number that, if it is a DTensor, every rank holds."""
    places: Iterable[Any] = getattr(x, "placements", ())
    if not all(place.is_replicate() for place in places):
        advice = "FSDP's are whole in the forward of the module that it wraps; else x.full_tensor()"
        fail(name, "a number that every rank holds", f"a DTensor placed {places} ({advice})")


def constant(name: str, value: float | Tensor) -> float | Tensor:
    """A number, or a floating tensor of shape () or (1,) that no gradient is asked for."""
    value = number_or_scalar(name, value)
    if isinstance(value, Tensor) and value.requires_grad:
        fail(name, "a number, as no gradient by it is made", "a tensor that requires one")
    return value


def floating_dtype(name: str, value: object, *, also: str = "") -> None:
    """A floating dtype; ``also`` says what else would do."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        fail(name, "a floating dtype" + (f" or {also}" if also else ""), shown(value))


def positive(name: str, value: float) -> None:
    """A number above zero."""
    if not is_number(value) or not value > 0:
        fail(name, "a number above 0", _no_number(name, value))


def probability(value: float) -> None:
    """A number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        fail("probability", "a number in [0, 1]", _no_number("probability", value))


def below_one(name: str, value: float) -> None:
    """A number from 0 to below 1."""
    if not is_number(value) or not 0 <= value < 1:
        fail(name, "a number in [0, 1)", _no_number(name, value))


def chances(name: str, value: float | Tensor, rows: Tensor) -> Tensor | None:
    """(B,) constants in [0, 1) for B rows, from one number or one for each; None for the number 0.

    Values of a tensor are read on the CPU only.
    """
    size = rows.shape[0]
    if not isinstance(value, Tensor):
        below_one(name, value)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return None if value == 0 else rows.new_full((size,), value, dtype=dtype)
    if value.requires_grad:
        fail(name, "numbers, as no gradient by them is made", "a tensor that requires one")
    if value.ndim:
        vector(name, value, size)
    if not value.is_floating_point():
        fail(name, "a floating dtype", value.dtype)
    outside = ~((value >= 0) & (value < 1))
    if _some(outside):
        fail(name, "numbers in [0, 1)", f"{value[outside].flatten()[0].item():.6g}")
    return value.expand(size)


def whole(name: str, value: int, *, least: int = 1) -> int:
    """An int of at least one, or of ``least``; NumPy's become Python's."""
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            fail(name, f"an int of at least {least}", shown(value))
        value = int(value)
    if not least <= value <= _LONGEST:
        fail(name, f"an int of at least {least}", shown(value))
    return value


def chunk(value: int | None) -> int | None:
    """A chunk_size: an int of at least one, or None."""
    return None if value is None else whole("chunk_size", value)


def fits(name: str, value: int, dtype: torch.dtype) -> None:
    """An int that an integer dtype can hold."""
    limits = torch.iinfo(dtype)
    if isinstance(value, bool) or not isinstance(value, Integral):
        fail(name, "an int", shown(value))
    if not limits.min <= value <= limits.max:
        fail(name, f"{limits.min} to {limits.max}, what {dtype} holds", shown(value))


def temperature(value: float | Tensor) -> float | Tensor:
    """A number above zero, or a learned one: :func:`zero_dimensional`."""
    if isinstance(value, Tensor):
        return zero_dimensional("temperature", value, "a number above 0")
    positive("temperature", value)
    return value


def targets(name: str, x: Tensor, rows: int, size: int, *, ignore: int) -> Tensor:
    """Integer (rows,) indices below ``size``, or ``ignore``, as int64; values read on the CPU only.

    int64, because in a small dtype ``size`` and what is added to an index can overflow.
    """
    if isinstance(x, Tensor) and x.ndim == 2:
        fail(name, f"shape ({rows},)", f"{shape(x)} (several partners, or shares, are positives=)")
    vector(name, x, rows)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        fail(name, "integer indices", x.dtype)
    x = x.long()
    outside = ((x < 0) | (x >= size)) & (x != ignore)
    if _some(outside):
        fail(name, f"indices from 0 to {size - 1}, or {ignore} for none", int(x[outside][0]))
    return x


def row_indices(name: str, x: Tensor, size: int, of: str) -> None:
    """int64 indices of ``size`` rows; values read on the CPU only. ``of`` says whose rows."""
    outside = (x < 0) | (x >= size)
    if _some(outside):
        fail(name, f"indices from 0 to {size - 1}, of {of}", int(x[outside][0]))


def features(features: Mapping[str, Tensor]) -> None:
    """At least two modalities, each a floating (B, D) tensor, B and D shared."""
    if not isinstance(features, Mapping):
        fail("features", "a mapping of modality to (B, D)", type(features).__name__)
    if len(features) < 2:
        fail("features", "at least two modalities", list(features))
    first: Tensor | None = None
    for name, x in features.items():
        matrix(f"features[{name!r}]", x, rows=None if first is None else first.shape[0], like=first)
        first = x if first is None else first


def reduction(value: str) -> None:
    """One of the three reductions."""
    one_of("reduction", value, REDUCTIONS)
