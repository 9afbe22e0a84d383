"""Missing modalities, and rows that take no part."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.eager import is_eager, known_finite


def presence(
    features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """(B,) bool for every modality of ``features``; True for those that ``present`` leaves out.

    Raises:
        ValueError: on a modality that is not in ``features``, or a mask of another shape or dtype.

    Example:
        >>> presence({"text": torch.ones(2, 3)}, None)
        {'text': tensor([True, True])}
    """
    if present is not None:
        arguments.mapping("present", present, "modality to (B,) bool")
    given = {} if present is None else dict(present)
    for name in given:
        arguments.one_of("present", name, list(features))
    masks = {}
    for name, x in features.items():
        masks[name] = given.get(name, torch.ones(x.shape[0], dtype=torch.bool, device=x.device))
        arguments.mask(f"present[{name!r}]", masks[name], (x.shape[0],))
    return masks


def zero_outside(x: Tensor, rows: Tensor) -> Tensor:
    """(B, D) with the rows outside a (B,) mask set to zero, so that not even NaN propagates.

    Example:
        >>> zero_outside(torch.ones(2, 2), torch.tensor([True, False]))
        tensor([[1., 1.],
                [0., 0.]])
    """
    return torch.where(rows[:, None], x, 0)


def only_present(
    features: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The features with absent rows set to zero, so that not even NaN propagates.

    Example:
        >>> only_present({"text": torch.ones(2, 2)}, {"text": torch.tensor([True, False])})
        {'text': tensor([[1., 1.],
                [0., 0.]])}
    """
    return {name: zero_outside(x, present[name]) for name, x in features.items()}


def refuse_not_finite(name: str, rows: Tensor) -> None:
    """Mapped rows with NaN or infinity, for which no number says anything; reads the device."""
    if not is_eager(rows) or known_finite(rows):
        return
    faulty = (~rows.isfinite().all(1)).nonzero()[:, 0].tolist()
    if faulty:
        got = f"NaN or infinity in {len(faulty)} of {len(rows)}, the first in row {faulty[0]}"
        arguments.fail(name, "finite rows", got)
