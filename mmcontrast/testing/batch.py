"""A batch of any kind: named matrices of rows, and optional labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

MODALITIES = ("text", "audio", "vision")
NAMES: Mapping[str, tuple[str, ...]] = {
    "paired": ("a", "b"),
    "labelled": ("z",),
    "triplet": ("a", "p", "n"),
    "multimodal": MODALITIES,
    "miner": ("a", "b"),
    "labelled_miner": ("z",),
    "distance": ("x", "y"),
}


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows by name, (N, D) each, and labels (N,) or None."""

    kind: str
    rows: dict[str, Tensor]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    @property
    def features(self) -> int:
        """D, the number of features."""
        return next(iter(self.rows.values())).shape[1]

    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of a loss of this kind."""
        first = (self.rows,) if self.kind == "multimodal" else tuple(self.rows.values())
        return first if self.labels is None else (*first, self.labels)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with a function applied to each matrix of rows."""
        return replace(self, rows={name: function(x) for name, x in self.rows.items()})

    def with_rows(self, rows: Mapping[str, Tensor]) -> "Batch":
        """Other rows, the same labels."""
        return replace(self, rows=dict(rows))

    def with_labels(self, labels: Tensor) -> "Batch":
        """Other labels, the same rows."""
        return replace(self, labels=labels)

    def take(self, order: Tensor | Sequence[int]) -> "Batch":
        """The samples at the given indices, which may repeat."""
        order = torch.as_tensor(order, dtype=torch.int64)
        return Batch(
            self.kind,
            {name: x[order] for name, x in self.rows.items()},
            None if self.labels is None else self.labels[order],
        )

    def without(self, i: int) -> "Batch":
        """All samples but one."""
        return self.take([k for k in range(len(self)) if k != i])

    def to(self, dtype: torch.dtype) -> "Batch":
        """The rows in another dtype."""
        return self.map(lambda x: x.to(dtype))

    def copy(self) -> "Batch":
        """New tensors of the same values."""
        labels = None if self.labels is None else self.labels.clone()
        return Batch(self.kind, {k: x.detach().clone() for k, x in self.rows.items()}, labels)

    def leaves(self) -> "Batch":
        """Fresh leaves that collect a gradient."""
        return self.map(lambda x: x.detach().clone().requires_grad_())


def batch_of(kind: str, inputs: Sequence[Any]) -> Batch:
    """The inverse of :meth:`Batch.arguments`."""
    first, *rest = inputs
    if kind == "multimodal":
        return Batch(kind, dict(first), rest[0] if rest else None)
    names = NAMES[kind]
    labels = inputs[len(names)] if len(inputs) > len(names) else None
    return Batch(kind, dict(zip(names, inputs, strict=False)), labels)
