"""Named loss terms with their weights and their weighted sum."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mmcontrast import arguments


class LossTerms(Mapping[str, Tensor]):
    """What a composite loss returns: its terms by name, their weights, and ``.total``.

    It is a mapping of name to unweighted term, so it logs with ``{k: v.item() for k, v in
    terms.items()}``; the names are the same on every call.

    Args:
        terms: unweighted terms, all of one shape.
        weights: a number for each term; 1 where left out. A term of weight 0 is left out of the
            total, so that nothing, not even NaN, propagates from it.

    Raises:
        ValueError: on no terms, or a weight for a term that does not exist.

    Example:
        >>> terms = LossTerms({"task": torch.tensor(2.0), "semi": torch.tensor(3.0)}, {"semi": 0.5})
        >>> list(terms), terms["semi"], terms.total
        (['task', 'semi'], tensor(3.), tensor(3.5000))
    """

    def __init__(self, terms: Mapping[str, Tensor], weights: Mapping[str, float] | None = None):
        if not terms:
            arguments.fail("terms", "at least one term", "none")
        given = {} if weights is None else dict(weights)
        for name in given:
            arguments.one_of("weights", name, list(terms))
        self._terms = dict(terms)
        self.weights = {name: given.get(name, 1.0) for name in terms}

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms, of their shape."""
        weighted = [w * self._terms[name] for name, w in self.weights.items() if w != 0]
        if not weighted:
            return torch.zeros_like(next(iter(self._terms.values())))
        return torch.stack(weighted).sum(0)

    def __getitem__(self, name: str) -> Tensor:
        return self._terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __repr__(self) -> str:
        return f"LossTerms({self._terms}, weights={self.weights})"
