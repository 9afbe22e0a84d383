"""The catalogue of laws: each check is a function, and its docstring states the law."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.draws import Draw
from mmcontrast.testing.strategies import batches, unit_rows
from mmcontrast.testing.subject import Subject
from mmcontrast.testing.traits import KINDS, Traits

Body = Callable[..., None]
Batches = Callable[[Traits], SearchStrategy[Batch]]


def _any_samples(traits: Traits) -> SearchStrategy[Batch]:
    """Two to six samples with rows of any shape, ties among them."""
    return batches(traits)


def generic(traits: Traits) -> SearchStrategy[Batch]:
    """Two to six samples in general position."""
    return batches(traits, generic=True)


def with_positives(traits: Traits) -> SearchStrategy[Batch]:
    """Samples in general position; with labels, two or more classes of two or more samples."""
    if not traits.labelled:
        return batches(traits, generic=True)
    most = traits.classes or 3
    some = batches(traits, min_size=4, generic=True)
    return some.map(
        lambda batch: batch.with_labels(torch.arange(len(batch)) % min(len(batch) // 2, most))
    )


def few_samples(traits: Traits) -> SearchStrategy[Batch]:
    """Two or three samples in general position."""
    return batches(traits, max_size=3, generic=True)


def crowded(traits: Traits) -> SearchStrategy[Batch]:
    """Four to six samples that all face nearly the same way: their cosines differ by 1e-4."""
    some = batches(traits, min_size=4, generic=True)
    close = some.map(lambda batch: batch.map(lambda x: 1 + 0.02 * x))
    return close.map(lambda batch: batch.map(unit_rows)) if traits.unit else close


def one_to_spare(traits: Traits) -> SearchStrategy[Batch]:
    """As many samples as the loss still takes when one of them is removed."""
    return batches(traits, min_size=max(2, traits.smallest + 1))


def one_sample(traits: Traits) -> SearchStrategy[Batch]:
    """A single sample."""
    return batches(traits, min_size=1, max_size=1)


@dataclass(frozen=True)
class Check:
    """One law: its name, the losses that claim it, and how it is checked.

    Call it with a :class:`Subject` and an example that :meth:`examples` draws.
    """

    name: str
    body: Body
    number: str
    """Its number in the catalogue of laws; empty for a law without one."""
    kinds: tuple[str, ...]
    when: Callable[[Traits], bool]
    needs: str
    """The traits that claim it, for reports of losses that do not claim it."""
    batches: Batches
    draws: dict[str, Draw]
    most: int | None
    """The largest number of examples, for slow checks."""

    @property
    def law(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.body) or "").partition("\n")[0]

    @property
    def hint(self) -> str:
        """What a failure usually means: the rest of the docstring."""
        rest = (inspect.getdoc(self.body) or "").partition("\n")[2]
        return " ".join(rest.split())

    def applies(self, traits: Traits) -> bool:
        """Whether a loss of these traits claims the law."""
        return traits.kind in self.kinds and self.when(traits)

    def examples(self, traits: Traits) -> SearchStrategy[tuple[Batch, dict[str, Any]]]:
        """A batch, and by name what else the law needs."""
        return _example(self, traits)

    def __call__(self, subject: Subject, batch: Batch, **draws: Any) -> None:
        """Check one example; LawBroken where the law does not hold."""
        with subject.untouched():
            self.body(subject, batch, **draws)


@st.composite
def _example(draw: DrawFn, check: Check, traits: Traits) -> tuple[Batch, dict[str, Any]]:
    batch = draw(check.batches(traits))
    return batch, {name: draw(function(batch)) for name, function in check.draws.items()}


CHECKS: dict[str, Check] = {}

FIRST = ("returns_a_scalar", "mined_indices_are_rows", "distance_is_one_number_a_pair")
"""The first law of losses, of miners and of distances: where it fails, no other is checked."""


def check(
    number: str = "",
    *,
    kinds: tuple[str, ...] = KINDS,
    when: Callable[[Traits], bool] = lambda traits: True,
    needs: str = "",
    batches: Batches = _any_samples,
    draws: dict[str, Draw] | None = None,
    most: int | None = None,
) -> Callable[[Body], Body]:
    """Register a law in the catalogue, under the name of the function."""

    def register(body: Body) -> Body:
        CHECKS[body.__name__] = Check(
            body.__name__, body, number, kinds, when, needs, batches, draws or {}, most
        )
        return body

    return register
