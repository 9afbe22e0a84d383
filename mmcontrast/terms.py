"""Named loss terms with their weights and their weighted sum."""

from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mmcontrast import arguments

Pairs = Iterable[tuple[str, Tensor]]


class LossTerms(OrderedDict[str, Tensor]):
    """What a composite loss returns: its terms by name, their weights, and ``.total``.

    It is a dict of name to unweighted term, so it logs with ``{k: v.item() for k, v in
    terms.items()}``; the names are the same on every call.

    Terms, weights and total last through whatever moves, casts, collates, gathers or copies a dict
    or a pytree: DistributedDataParallel, FSDP, ``default_collate``, Accelerate, Lightning, the
    Trainer of transformers, ``torch.func``, ``torch.compile``, pickle. Most of these make
    ``type(terms)({name: ... for name in terms})`` and know nothing of weights. Therefore a name
    that comes out of ``LossTerms`` is a str that also holds its weight. (Only in code that torch
    2.15 compiles, ``{**terms}`` goes past these names; ``{**dict(terms)}`` does not.)

    Args:
        terms: unweighted terms, all of one shape, or pairs of name and term. Nothing at all, not
            even an empty dict, makes an empty one, to be filled item by item.
        weights: a number for each term. A term left out has the weight that its name holds, if it
            comes from other ``LossTerms``, else 1. A term of weight 0 is left out of the total, so
            that nothing, not even NaN, propagates from it.

    Raises:
        ValueError: on no terms, or a weight for a term that does not exist.
        AttributeError: on what only tensors have, such as ``backward``, with where to find it.

    Example:
        >>> terms = LossTerms({"task": torch.tensor(2.0), "semi": torch.tensor(3.0)}, {"semi": 0.5})
        >>> list(terms), terms["semi"], terms.total
        (['task', 'semi'], tensor(3.), tensor(3.5000))
        >>> LossTerms({name: 2 * term for name, term in terms.items()}).weights
        {'task': 1.0, 'semi': 0.5}
    """

    def __init__(
        self,
        terms: Mapping[str, Tensor] | Pairs | None = None,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__()
        self.weights: dict[str, float] = {}
        try:
            found = {} if terms is None else dict(terms)
        except (TypeError, ValueError):
            arguments.fail("terms", "a mapping of name to term", arguments.shown(terms))
        if terms is not None and not found:
            arguments.fail("terms", "at least one term", "none")
        for name, term in found.items():
            self[name] = term
        given = {} if weights is None else arguments.mapping("weights", weights, "name to number")
        for name, weight in given.items():
            arguments.one_of("weights", name, list(self.weights))
            self.weights[str(name)] = _without_dimension(weight)

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms, of their shape."""
        terms = [(self.weights[name], term) for name, term in super().items()]
        if not terms:
            arguments.fail("terms", "at least one term", "none")
        # A tensor also where terms were made NumPy's, as the Trainer does after an evaluation.
        weighted = [torch.as_tensor(w * term) for w, term in terms if w != 0]
        if not weighted:
            return torch.zeros_like(torch.as_tensor(terms[0][1]))
        return torch.stack(weighted).sum(0)

    if not TYPE_CHECKING:  # to a type checker, what does not exist is an error already

        def __getattr__(self, name: str) -> NoReturn:
            """An error that says where the tensor is, for whoever takes the terms for one."""
            instead = ""
            if hasattr(Tensor, name) and not name.startswith("_"):
                instead = f": the loss is its .total, a tensor (terms.total.{name})"
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{instead}",
                name=name,
                obj=self,
            )

    def __setitem__(self, name: str, term: Tensor) -> None:
        plain = str(name)
        super().__setitem__(plain, term)
        self.weights.setdefault(plain, name.weight if isinstance(name, _Name) else 1.0)

    def __iter__(self) -> Iterator[str]:
        return iter([_weighted(name, self.weights[name]) for name in super().__iter__()])

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    # A dict's own views go past __iter__; typing has no names for the views of an OrderedDict.
    def keys(self) -> KeysView[str]:  # type: ignore[override]  # not odict_keys
        """The names, each of which holds its weight."""
        return KeysView(self)

    def items(self) -> ItemsView[str, Tensor]:  # type: ignore[override]  # not odict_items
        """Names and terms."""
        return ItemsView(self)

    def copy(self) -> "LossTerms":
        """Another one with the same tensors."""
        return LossTerms(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self:
            return LossTerms, ()
        terms = dict(super().items())
        return LossTerms, (terms, {name: self.weights[name] for name in terms})

    def __repr__(self) -> str:
        return f"LossTerms({dict(super().items())}, weights={self.weights})"


def _without_dimension(weight: Any) -> Any:
    """A learned weight of shape (1,) as a 0-d one, so that its term keeps its shape."""
    return weight.reshape(()) if isinstance(weight, Tensor) and weight.shape == (1,) else weight


class _Name(str):
    """A name that holds its term's weight."""

    __slots__ = ("weight",)
    weight: float

    def __reduce__(self) -> tuple[Any, ...]:
        return _weighted, (str(self), self.weight)


def _weighted(name: str, weight: float) -> str:
    found = _Name(name)
    found.weight = weight
    return found


# The compiler cannot follow the making of a str with an attribute. This is what
# torch.compiler.assume_constant_result sets, without its import of the whole compiler. (Where names
# are read inside compiled code, a weight that changes between calls breaks the graph.)
_weighted._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch's private mark


def _flatten(terms: LossTerms) -> tuple[list[Tensor], list[str]]:
    return list(terms.values()), list(terms)


def _flatten_with_keys(terms: LossTerms) -> tuple[list[tuple[Any, Tensor]], list[str]]:
    return [(pytree.MappingKey(str(k)), term) for k, term in terms.items()], list(terms)


def _unflatten(terms: Iterable[Any], names: list[str]) -> LossTerms:
    return LossTerms(zip(names, terms, strict=True)) if names else LossTerms()


pytree.register_pytree_node(
    LossTerms,
    _flatten,
    _unflatten,
    serialized_type_name="mmcontrast.LossTerms",
    flatten_with_keys_fn=_flatten_with_keys,
    to_dumpable_context=lambda names: [[str(name), name.weight] for name in names],
    from_dumpable_context=lambda pairs: [_weighted(*pair) for pair in pairs],
)
# Safe to load: they hold their arguments and do nothing else. Names also come in plain dicts, of
# logged numbers.
torch.serialization.add_safe_globals([LossTerms, _weighted])
