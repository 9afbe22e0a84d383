"""Lightning: the terms of a loss logged from a LightningModule.

::

    class Model(LossTermsMixin, LightningModule):
        def training_step(self, batch, batch_idx):
            terms = anchored_info_nce(self(batch))
            return self.log_terms(terms, batch_size=len(batch["text"]))

It needs nothing of the library but a module with its ``log_dict``: ``lightning.pytorch``'s or
``pytorch_lightning``'s.
"""

from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.terms import LossTerms

__all__ = ["LossTermsMixin", "log_terms"]


def log_terms(
    module: Any,
    terms: LossTerms,
    *,
    batch_size: int,
    stage: str = "train",
    weights: bool = True,
    **settings: Any,
) -> Tensor:
    """Log every term by name, its weight and the total, and return the total to train on.

    The names are ``{stage}/{term}``, ``{stage}/{term}_weight`` and ``{stage}/total``; a term that
    is itself called "total" is refused. They are the same on every call and every rank, as the
    terms' are, so that Lightning may reduce them over ranks and epochs.

    Args:
        module: a LightningModule, in one of its steps.
        terms: scalars; they are logged unweighted and without their graph.
        batch_size: number of samples: the weight of this step in the epoch's mean, which Lightning
            cannot infer from a batch that is a dict of modalities.
        stage: prefix of the names.
        weights: log the weights too.
        **settings: of ``log_dict``: ``prog_bar``, ``on_step``, ``on_epoch``, ``sync_dist``, ...

    Returns:
        ``terms.total``.

    Raises:
        ValueError: on terms that are not scalars, or one called "total".
    """
    if not isinstance(terms, LossTerms):
        arguments.fail("terms", "LossTerms", type(terms).__name__)
    arguments.whole("batch_size", batch_size)
    if "total" in terms:
        arguments.fail("terms", 'no term called "total"', list(terms))
    for name, value in terms.items():
        if value.ndim != 0:
            arguments.fail(f"terms[{name!r}]", "a scalar", arguments.shape(value))
    total = terms.total
    logged = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
    if weights:
        for name, weight in terms.weights.items():
            logged[f"{stage}/{name}_weight"] = torch.as_tensor(weight, device=total.device)
    logged[f"{stage}/total"] = total.detach()
    module.log_dict(logged, batch_size=batch_size, **settings)
    return total


class LossTermsMixin:
    """:func:`log_terms` as a method, for a class that inherits from LightningModule too."""

    def log_terms(self, terms: LossTerms, *, batch_size: int, **settings: Any) -> Tensor:
        """See :func:`log_terms`."""
        return log_terms(self, terms, batch_size=batch_size, **settings)
