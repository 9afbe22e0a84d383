"""How another library's loss, miner or distance is brought under the suite."""

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmcontrast.testing import CheckReport, Traits
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import as_traits


def module(name):
    """A peer's module, with its import's warnings out of the way; ModuleNotFoundError without it.

    torchvision's operators are not registered beside a CPU build of torch, and nothing here needs
    them: an empty module stands in for the one that would look for them.
    """
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("_meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@dataclass(frozen=True)
class Peer:
    """What makes it, of a temperature (of a margin: triplets) where it has one, and its claims."""

    make: Callable[..., Any]
    traits: Traits
    temperature: float | None = 0.07

    def report(self, name: str, *, temperature: float | None = None, **options: Any) -> CheckReport:
        """The suite on this loss at a temperature, its own where none is given."""
        at = self.temperature if temperature is None else temperature
        stated = self.traits
        if at is not None:
            stated = replace(stated, factory=self.make)
            if self.traits.kind != "triplet":
                stated = replace(stated, temperature=at)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self.make() if at is None else self.make(at)
            return report_on(made, stated, name=name, **options)


DTYPES = dict.fromkeys((torch.float32, torch.bfloat16, torch.float16))
ENGINEERING = {"traceable": True, "functional": True, "empty": "either", "dtypes": DTYPES}
"""What is tested for every library, whether or not it documents support."""

INFO_NCE = Traits(form="info_nce", **ENGINEERING)
SYMMETRIC = Traits(form="info_nce", symmetric=True, **ENGINEERING)
NT_XENT = Traits(form="nt_xent", symmetric=True, **ENGINEERING)
SUP_CON = Traits(kind="labelled", form="sup_con", **ENGINEERING)


def fixed(make: Callable[[], Any], **claims: Any) -> Peer:
    """A loss without a temperature, with what it claims beyond the usual."""
    return Peer(make, Traits(**{**ENGINEERING, **claims}), None)


def labelled(make: Callable[[], Any], **claims: Any) -> Peer:
    return fixed(make, kind="labelled", **claims)


def miner(make: Callable[[], Any], **claims: Any) -> Peer:
    return Peer(make, as_traits({"kind": "labelled_miner", "dtypes": DTYPES, **claims}), None)


def distance(make: Callable[[], Any], **claims: Any) -> Peer:
    return Peer(make, as_traits({"kind": "distance", "dtypes": DTYPES, **claims}), None)


def all_pairs(z, labels):
    """The rows of all pairs of a batch, and whether their labels are equal."""
    i, j = torch.triu_indices(len(z), len(z), 1)
    return z[i], z[j], labels[i] == labels[j]
