"""Checks of tensors by shape and dtype; their entries are not read."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcontrast.advice import NO_IDS, bool_instead, mask_instead, rows_instead
from mmcontrast.arguments.messages import fail, shape, shown


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


def columns(name: str, x: Tensor, size: int, axis: str) -> None:
    """One number for each sample, (size,), or several, (size, axis)."""
    if tensor(name, x).is_complex():
        fail(name, "real numbers", x.dtype)
    if x.ndim not in (1, 2) or x.shape[0] != size:
        fail(name, f"shape ({size},) or ({size}, {axis})", shape(x))


def mask(name: str, x: Tensor, like: tuple[int, ...], *, weights: bool = False) -> None:
    """A bool tensor of shape ``like``; with ``weights``, a floating one as well."""
    if tensor(name, x).shape != like:
        expected = f"shape ({', '.join(map(str, like))}{',' if len(like) == 1 else ''})"
        fail(name, expected, shape(x) + mask_instead(name, x, like))
    if x.dtype != torch.bool and not (weights and x.is_floating_point()):
        kinds = "a bool mask" + (" or floating weights" if weights else "")
        fail(name, kinds, f"{x.dtype}{bool_instead(name, x)}")


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
