"""The catalogue: every check is a named function whose docstring is its law."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.strategies import Draw, batches
from mmcontrast.testing.subject import Subject
from mmcontrast.testing.traits import KINDS, Traits

Body = Callable[..., None]
Batches = Callable[[Traits], SearchStrategy[Batch]]


def usual(traits: Traits) -> SearchStrategy[Batch]:
    """Two to six samples of any shape."""
    return batches(traits)


def generic(traits: Traits) -> SearchStrategy[Batch]:
    """Two to six samples in general position."""
    return batches(traits, generic=True)


def ordinary(traits: Traits) -> SearchStrategy[Batch]:
    """Samples in general position; by label, two classes or more of two samples or more."""
    if not traits.labelled:
        return batches(traits, generic=True)
    some = batches(traits, min_size=4, generic=True)
    return some.map(lambda batch: batch.with_labels(torch.arange(len(batch)) % (len(batch) // 2)))


def small(traits: Traits) -> SearchStrategy[Batch]:
    """Two or three samples in general position."""
    return batches(traits, max_size=3, generic=True)


def one_sample(traits: Traits) -> SearchStrategy[Batch]:
    """A single sample."""
    return batches(traits, min_size=1, max_size=1)


@dataclass(frozen=True)
class Check:
    """One law: what it is called, for which losses it is claimed, and how it is checked.

    Call it with a :class:`Subject` and an example that :meth:`examples` draws.
    """

    name: str
    body: Body
    number: str
    """In the catalogue of laws; empty where it is not in it."""
    kinds: tuple[str, ...]
    when: Callable[[Traits], bool]
    needs: str
    """The traits that claim it, for a report that leaves it out."""
    batches: Batches
    draws: dict[str, Draw]
    most: int | None
    """Examples at most, for checks that are slow."""

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
        """A batch, and what the law needs beside it by name."""
        found: SearchStrategy[tuple[Batch, dict[str, Any]]] = _example(self, traits)
        return found

    def __call__(self, subject: Subject, batch: Batch, **draws: Any) -> None:
        """Hold the example against the law; LawBroken where it does not stand."""
        with subject.untouched():
            self.body(subject, batch, **draws)


@st.composite
def _example(draw: DrawFn, check: Check, traits: Traits) -> tuple[Batch, dict[str, Any]]:
    batch = draw(check.batches(traits))
    return batch, {name: draw(function(batch)) for name, function in check.draws.items()}


CHECKS: dict[str, Check] = {}


def check(
    number: str = "",
    *,
    kinds: tuple[str, ...] = KINDS,
    when: Callable[[Traits], bool] = lambda traits: True,
    needs: str = "",
    batches: Batches = usual,
    draws: dict[str, Draw] | None = None,
    most: int | None = None,
) -> Callable[[Body], Body]:
    """Put a law into the catalogue, under the function's own name."""

    def register(body: Body) -> Body:
        CHECKS[body.__name__] = Check(
            body.__name__, body, number, kinds, when, needs, batches, draws or {}, most
        )
        return body

    return register
