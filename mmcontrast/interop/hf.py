"""transformers: our losses in its Trainer, right under gradient accumulation, with terms logged.

::

    def loss(outputs, labels):
        return symmetric_info_nce(outputs["image_embeds"], outputs["text_embeds"])

    trainer = Trainer(model, arguments, train_dataset=data)
    attach(trainer, loss)
    trainer.train()

A ``compute_loss_func`` alone cannot be right. The Trainer takes its result as already divided, by
``num_items_in_batch`` or by the number of accumulation steps. The first is a number of tokens, by
which a mean over anchors must not be divided; the second is not passed to the function. So a
contrastive mean is too large by the number of accumulation steps. :func:`attach` makes the Trainer
divide, also by the smaller number of steps at the end of an epoch. It needs nothing of the library
but the Trainer that it is given.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.terms import LossTerms

__all__ = ["ComputeLoss", "attach"]

Loss = Callable[[Any, Any], Tensor | LossTerms]


def attach(trainer: Any, loss: Loss) -> "ComputeLoss":
    """Give a Trainer a contrastive loss: its mean over each batch, averaged over the batches.

    Sets ``compute_loss_func`` and ``loss_is_scaled_for_ga`` of the trainer, turns off
    ``average_tokens_across_devices`` of its arguments, which would multiply the loss by the number
    of processes, and adds the terms to its logs, under their own names next to ``loss``, and
    ``eval_<name>`` next to ``eval_loss``: means over the batches since the last log, over all
    processes.

    Args:
        trainer: a transformers ``Trainer``, or a subclass that computes its loss as that does.
        loss: called with what the model returns and with the labels (None where there are none); a
            mean over the batch, or :class:`LossTerms` of means. For the candidates of all ranks it
            passes ``group="world"`` on. Parameters of the loss, such as a temperature, must be part
            of the model: the Trainer trains only that.

    Returns:
        The ``compute_loss_func`` that the trainer now has.

    Raises:
        ValueError: on a trainer without ``compute_loss_func``; later, on a loss that is not a
            scalar.

    Note:
        Gradients of an accumulated batch are the mean over its micro-batches. Each has only its own
        candidates: accumulation adds no negatives.
    """
    if not hasattr(trainer, "compute_loss_func"):
        arguments.fail("trainer", "a transformers Trainer", type(trainer).__name__)
    computed = ComputeLoss(loss)
    trainer.compute_loss_func = computed
    trainer.loss_is_scaled_for_ga = False
    trainer.args.average_tokens_across_devices = False
    log = trainer.log

    def with_terms(logs: dict[str, float], *arguments: Any, **named: Any) -> Any:
        stage = "eval" if "eval_loss" in logs else "train" if "loss" in logs else None
        if stage is not None:
            prefix = "eval_" if stage == "eval" else ""
            found = computed.take(stage, trainer.accelerator.reduce)
            logs = {**logs, **{prefix + name: value for name, value in found.items()}}
        return log(logs, *arguments, **named)

    trainer.log = with_terms
    return computed


class ComputeLoss:
    """A ``compute_loss_func`` that keeps the terms of each batch until they are logged.

    Args:
        loss: called with what the model returns and with the labels.
    """

    def __init__(self, loss: Loss):
        self.loss = loss
        self._sums: dict[str, dict[str, Tensor]] = {"train": {}, "eval": {}}

    def __call__(
        self, outputs: Any, labels: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The loss of one batch; ``num_items_in_batch`` counts tokens and is not used."""
        found = self.loss(outputs, labels)
        terms = dict(found) if isinstance(found, LossTerms) else {}
        total = found.total if isinstance(found, LossTerms) else found
        if not isinstance(total, Tensor) or total.ndim != 0:
            got = arguments.shape(total) if isinstance(total, Tensor) else type(total).__name__
            arguments.fail("loss", "a scalar tensor, or LossTerms of scalars", got)
        sums = self._sums["train" if torch.is_grad_enabled() else "eval"]
        for name, value in {**terms, "": torch.ones_like(total)}.items():  # "": how many batches
            value = value.detach()
            sums[name] = sums[name] + value if name in sums else value
        return total

    def take(self, stage: str, reduce: Callable[..., Tensor] | None = None) -> dict[str, float]:
        """Means of the terms over the batches of a stage since the last call; resets them.

        Args:
            stage: ``"train"`` or ``"eval"``.
            reduce: sums a tensor over processes; None for this process alone.
        """
        sums, self._sums[stage] = self._sums[stage], {}
        if len(sums) < 2:  # no terms or no batch; the same on every process, as names never change
            return {}
        stacked = torch.stack([value.float() for value in sums.values()])
        stacked = stacked if reduce is None else reduce(stacked, reduction="sum")
        found = dict(zip(sums, stacked.tolist(), strict=True))
        batches = found.pop("")
        return {name: value / batches for name, value in found.items()}
