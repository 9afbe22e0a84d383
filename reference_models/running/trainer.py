"""The Trainer of transformers with named loss terms and with learning rates by part."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from mmcontrast.loading import restore_dimensions
from reference_models.data.batch import Batch
from reference_models.layers.output import Output
from reference_models.running.checkpoints import complete, damaged, keep_only
from reference_models.running.storage import read_tensors, writing

# The fields of a training batch and the steps so far, to the fields that are trained on.
Change = Callable[[dict[str, Any], int], dict[str, Any]]


class NotFinite(ValueError):
    """A training that diverged: its loss is not a finite number any more."""


class Trainee(nn.Module):
    """A network as the Trainer calls it: with the fields of a ``Batch`` as keyword arguments.

    It also hides the network's ``config``, into which the Trainer would write, and its ``forward``,
    which mixed precision would replace by a wrapper.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **fields: Any) -> Output:
        """The network on ``Batch(**fields)``."""
        output: Output = self.network(Batch(**fields))
        return output


class TermTrainer(Trainer):
    """The Trainer for networks that return ``Output``: the loss is the total of its terms.

    ``loss_task``, ``loss_intra``, ... in the log are the terms times their weights, averaged over
    the interval like ``loss``: their sum is ``loss``.

    Args:
        head_learning_rate, pretrained: of :func:`parameter_groups`.
        change: of each training batch, before it is read; None: there is none. What it draws has
            to depend on the step that it is given, or a resumed training would draw otherwise.
        arguments: of the Trainer.
    """

    # compute_loss returns the mean of one batch: the Trainer divides by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        head_learning_rate: float,
        pretrained: bool,
        change: Change | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.change = change
        self.head_learning_rate = head_learning_rate
        self.pretrained = pretrained
        self._terms: dict[str, Tensor] = {}
        self._steps = 0.0

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """One batch forward and backward, after ``change`` if there is one."""
        if self.change is not None:
            inputs = self.change(inputs, self.state.global_step)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ) -> Tensor | tuple[Tensor, Any]:
        """The weighted sum of the terms of one batch (0-d); ``num_items_in_batch`` is not used."""
        output = model(**inputs)
        share = 1 / self.current_gradient_accumulation_steps
        self._steps += share
        for name, value in output.terms.items():
            weight = output.terms.weights[name] * share
            if weight != 0:  # a term of weight 0 is not in the total, not even where it is NaN
                self._terms[name] = self._terms.get(name, 0) + value.detach() * weight
            else:
                self._terms.setdefault(name, torch.zeros_like(value))
        return (output.terms.total, output) if return_outputs else output.terms.total

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """All samples on every rank: split over ranks, some would be padded in twice."""
        return DataLoader(
            self.eval_dataset if eval_dataset is None else eval_dataset,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss over samples, and the metrics if the network makes predictions."""
        self.model.eval()
        loss, count, predictions, labels = 0.0, 0, [], []
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                output = self.model(**batch)
            size = len(batch["index"])
            loss, count = loss + output.terms.total.double() * size, count + size
            if output.prediction is not None:
                predictions.append(output.prediction.float().cpu())
                labels.append(batch["labels"].cpu())
        metrics = {"loss": float(loss) / count}
        predicted = known = None
        if predictions:
            predicted, known = torch.cat(predictions).numpy(), torch.cat(labels).numpy()
            metrics |= self.compute_metrics(EvalPrediction(predicted, known))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(predicted, known, metrics, count)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss of an interval together with its terms.

        Raises:
            NotFinite: the loss is not finite.
        """
        if "loss" in logs and self._steps:
            values = torch.stack([value.float() for value in self._terms.values()]) / self._steps
            values = self.accelerator.reduce(values, reduction="mean").tolist()
            logs |= {f"loss_{name}": value for name, value in zip(self._terms, values, strict=True)}
            self._terms, self._steps = {}, 0.0
            if not math.isfinite(logs["loss"]):
                raise NotFinite(
                    f"loss: expected a finite number, got {logs['loss']} in epoch"
                    f" {math.ceil(self.state.epoch)}; lower learning_rate or head_learning_rate, or"
                    " set max_grad_norm"
                )
        super().log(logs, start_time)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Save, declare it complete, and then remove all older ones but the best.

        In this order: a kill at any moment leaves a complete checkpoint. An error names the file.
        """
        folder, state = Path(self.args.output_dir), self.state
        with writing(folder):
            super()._save_checkpoint(*arguments, **options)
            self.accelerator.wait_for_everyone()  # each rank writes its own random state
            if self.args.should_save:
                complete(folder / f"checkpoint-{state.global_step}")
                keep_only(folder, state.global_step, state.best_global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights, all of them: the Trainer's own function goes on without those that lack."""
        with _reading(resume_from_checkpoint, "model.safetensors") as path:
            self.model.load_state_dict(read_tensors(path))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _reading(checkpoint, "optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _reading(checkpoint, "rng_state.pth"):
            super()._load_rng_state(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with _reading(checkpoint, "scaler.pt"):
            super()._load_scaler(checkpoint)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over ``parameter_groups``."""
        if self.optimizer is None:
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups = parameter_groups(
                self.model,
                learning_rate=self.args.learning_rate,
                head_learning_rate=self.head_learning_rate,
                weight_decay=self.args.weight_decay,
                pretrained=self.pretrained,
            )
            self.optimizer = optimizer(groups, **options)
            self.optimizer.register_load_state_dict_post_hook(restore_dimensions)
        return self.optimizer


@contextmanager
def _reading(checkpoint: str | None, name: str) -> Iterator[Path]:
    """Turn whatever the content of a checkpoint leads to into an error that names the file.

    The Trainer reads all of them as weights only: nothing in them runs.
    """
    path = Path(checkpoint or ".") / name
    try:
        yield path
    except Exception as error:
        raise damaged(path, error) from error


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
    pretrained: bool,
) -> list[dict[str, Any]]:
    """Split a network's trainable parameters by learning rate and by weight decay.

    ``learning_rate`` is for the parameters of its PreTrainedModel if that is ``pretrained``,
    ``head_learning_rate`` for all others. Vectors and scalars (biases, gains of normalisation
    layers, temperatures) do not decay.
    """
    encoders = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    encoded = {id(p) for encoder in encoders for p in encoder.parameters()} if pretrained else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = learning_rate if id(parameter) in encoded else head_learning_rate
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]
