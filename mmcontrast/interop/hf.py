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
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.terms import LossTerms

__all__ = ["ComputeLoss", "attach"]

Loss = Callable[[Any, Any], Tensor | LossTerms]


def attach(trainer: Any, loss: Loss) -> "ComputeLoss":
    """Give a Trainer a contrastive loss: its mean over each batch, averaged over the batches.

    Sets ``compute_loss_func`` and ``loss_is_scaled_for_ga`` of the trainer, turns off
    ``average_tokens_across_devices`` of its arguments, which would multiply the loss by the number
    of processes, and makes it evaluate the loss of data without labels too, for which it would
    else log no ``eval_loss`` (and ``load_best_model_at_end`` raise). The terms are added to its
    logs, under their own names next to ``loss``, and ``eval_<name>`` next to ``eval_loss``: means
    over the batches since the last log, or of the evaluation, over all processes.

    Args:
        trainer: a transformers ``Trainer``, or a subclass that computes its loss as that does.
        loss: called with what the model returns and with the labels (None where there are none); a
            mean over the batch, or :class:`LossTerms` of means. For the candidates of all ranks it
            passes ``group="world"`` on. Parameters of the loss, such as a temperature, must be part
            of the model: the Trainer trains and saves only that.

    Returns:
        The ``compute_loss_func`` that the trainer now has.

    Raises:
        ValueError: on a trainer without ``compute_loss_func``, or a loss that is a Module with
            trainable parameters which are not the model's; later, on a loss that is not a scalar.

    Note:
        Gradients of an accumulated batch are the mean over its micro-batches. Each has only its own
        candidates: accumulation adds no negatives.

        Without labels, transformers warns at each batch that ``labels=None``: it is meant so.
    """
    if not hasattr(trainer, "compute_loss_func"):
        arguments.fail("trainer", "a transformers Trainer", type(trainer).__name__)
    _only_the_models(loss, trainer)
    computed = ComputeLoss(loss)
    trainer.compute_loss_func = computed
    trainer.loss_is_scaled_for_ga = False
    trainer.args.average_tokens_across_devices = False
    trainer.can_return_loss = True
    trainer.log = _with_terms(trainer.log, trainer, computed)
    trainer.prediction_step = _with_loss(trainer.prediction_step, trainer)
    trainer.evaluation_loop = _with_terms_of_its_own(trainer.evaluation_loop, computed)
    return computed


def _only_the_models(loss: Loss, trainer: Any) -> None:
    """Refuse parameters that would stay as they are, and be lost with the process."""
    if not isinstance(loss, nn.Module) or getattr(trainer, "model_init", None) is not None:
        return
    trained = {id(x) for x in trainer.model.parameters()}
    for name, value in loss.named_parameters():
        if value.requires_grad and id(value) not in trained:
            beside = f"{name!r} beside them (trainer.model.loss = loss, before, makes them so)"
            arguments.fail("loss", "parameters that are the model's too", beside)


def _with_terms(log: Callable[..., Any], trainer: Any, computed: "ComputeLoss") -> Any:
    """The Trainer's ``log`` with the terms beside the loss."""

    def logged(logs: dict[str, float], *arguments: Any, **named: Any) -> Any:
        # "loss" of some steps; "eval_loss", or "eval_NAME_loss" of one of several data sets; the
        # summary at the end has a "train_loss".
        losses = [name for name in logs if f"_{name}".endswith("_loss") and name != "train_loss"]
        if losses:
            prefix = losses[0].removesuffix("loss")
            found = computed.take("eval" if prefix else "train", trainer.accelerator.reduce)
            logs = {**logs, **{prefix + name: value for name, value in found.items()}}
        return log(logs, *arguments, **named)

    return logged


def _with_loss(step: Callable[..., Any], trainer: Any) -> Any:
    """The Trainer's ``prediction_step`` with a loss for batches without labels.

    It computes one where it expects labels and finds them, or expects none and can have a loss.
    """

    def stepped(model: Any, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        expected = trainer.label_names
        if any(inputs.get(name) is None for name in expected):
            trainer.label_names = []
        try:
            return step(model, inputs, *arguments, **named)
        finally:
            trainer.label_names = expected

    return stepped


def _with_terms_of_its_own(loop: Callable[..., Any], computed: "ComputeLoss") -> Any:
    """The Trainer's ``evaluation_loop`` without terms of a ``predict``, which logs none."""

    def looped(*arguments: Any, **named: Any) -> Any:
        computed.take("eval")
        return loop(*arguments, **named)

    return looped


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
