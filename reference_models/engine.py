"""The Trainer of transformers as our networks need it: loss terms, parameter groups, progress."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from reference_models.data.batch import Batch
from reference_models.folders import writing
from reference_models.output import Output


class Trainee(nn.Module):
    """A network as the Trainer calls it: the fields of a ``Batch``, as keyword arguments.

    It also keeps the network's ``config`` from the Trainer, which writes into one that it sees, and
    its ``forward`` from the wrapper that mixed precision puts around what is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **fields: Any) -> tuple[Output, dict[str, Tensor]]:
        """The network on ``Batch(**fields)``; its terms once more, in a dict.

        DistributedDataParallel looks into dataclasses and dicts for what was used, and no further.
        """
        output = self.network(Batch(**fields))
        return output, dict(output.terms)


class TermTrainer(Trainer):
    """The Trainer with a network that returns ``Output``: its terms are the loss and are logged.

    ``loss_task``, ``loss_intra``, ... in the log are the terms times their weights, averaged over
    the interval like ``loss``: they add up to it.
    """

    # compute_loss returns the mean of one batch: the Trainer divides by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(self, *, head_learning_rate: float, pretrained: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.head_learning_rate = head_learning_rate
        self.pretrained = pretrained
        self._terms: dict[str, Tensor] = {}
        self._steps = 0.0

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ) -> Tensor | tuple[Tensor, Any]:
        """The weighted sum of the terms of one batch (0-d); ``num_items_in_batch`` is not used."""
        output, _ = model(**inputs)
        share = 1 / self.current_gradient_accumulation_steps
        self._steps += share
        for name, value in output.terms.items():
            weight = output.terms.weights[name] * share
            if weight != 0:  # the total leaves such a term out, be it NaN
                self._terms[name] = self._terms.get(name, 0) + value.detach() * weight
            else:
                self._terms.setdefault(name, torch.zeros_like(value))
        return (output.terms.total, output) if return_outputs else output.terms.total

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """All samples on every rank: shared out, the last batches would hold some of them twice."""
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
        """The loss, a mean over samples, and the metrics where the network predicts something."""
        self.model.eval()
        loss, count, predictions, labels = 0.0, 0, [], []
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                output, _ = self.model(**batch)
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
        """Log, with the terms of the interval beside its loss.

        Raises:
            ValueError: where the loss is not finite any more.
        """
        if "loss" in logs and self._steps:
            values = torch.stack([value.float() for value in self._terms.values()]) / self._steps
            values = self.accelerator.reduce(values, reduction="mean").tolist()
            logs |= {f"loss_{name}": value for name, value in zip(self._terms, values, strict=True)}
            self._terms, self._steps = {}, 0.0
            if not math.isfinite(logs["loss"]):
                raise ValueError(
                    f"loss: expected a finite number, got {logs['loss']} in epoch"
                    f" {math.ceil(self.state.epoch)}; lower learning_rate or head_learning_rate, or"
                    " set max_grad_norm"
                )
        super().log(logs, start_time)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Save, and say what could not be saved."""
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(*arguments, **options)

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
        return self.optimizer


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
    pretrained: bool,
) -> list[dict[str, Any]]:
    """Split a network's trainable parameters by learning rate and by weight decay.

    ``learning_rate`` is for the parameters of its PreTrainedModel where that is ``pretrained``,
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


class Progress(TrainerCallback):
    """A bar over the steps, on a terminal; a line for every epoch; what has to happen then."""

    def __init__(
        self, on_epoch: Callable[[list[dict[str, float]]], None], *, watched: str, name: str
    ) -> None:
        self.on_epoch = on_epoch
        self.watched = watched
        self.name = name
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Open the bar where the run stands."""
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            disable=None if state.is_world_process_zero else True,
            leave=False,
            file=sys.stderr,
        )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """One step further."""
        self.bar.update(1)

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """An epoch is done: its line, and the history so far."""
        if state.is_world_process_zero:
            history = history_rows(state.log_history, self.watched)
            line = _epoch_line(history[-1], args.num_train_epochs, self.watched)
            tqdm.write(f"{self.name}{line}", file=sys.stderr)
            self.on_epoch(history)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Close the bar."""
        self.bar.close()


def _epoch_line(row: Mapping[str, float], epochs: float, watched: str) -> str:
    terms = " ".join(
        f"{name.removeprefix('loss_')} {value:.4f}"
        for name, value in row.items()
        if name.startswith("loss_")
    )
    words = {"loss": "loss", "mae": "MAE", "corr": "Corr", "accuracy": "accuracy"}
    measured = "  ".join(
        f"{word} {row[f'{watched}_{name}']:.4f}"
        for name, word in words.items()
        if f"{watched}_{name}" in row
    )
    return (
        f"epoch {row['epoch']:>3}/{epochs:.0f}  loss {row['loss']:.4f} ({terms})"
        f"  {watched} {measured}"
    )


def history_rows(
    log_history: list[dict[str, float]], watched: str = "valid"
) -> list[dict[str, float]]:
    """One row an epoch out of a Trainer's log: epoch, loss, loss_*, learning_rate, valid_*.

    ``watched`` is the split that the metrics are of, and their prefix.
    """
    rows: dict[int, dict[str, float]] = {}
    for entry in log_history:
        if "loss" in entry:
            kept = {k: v for k, v in entry.items() if k.startswith("loss")}
            kept["learning_rate"] = entry["learning_rate"]
        elif "eval_loss" in entry:
            speed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
            kept = {
                k.replace("eval_", f"{watched}_", 1): v
                for k, v in entry.items()
                if k.startswith("eval_") and k not in speed and "preparation" not in k
            }
        else:
            continue
        epoch = round(entry["epoch"])
        rows.setdefault(epoch, {"epoch": epoch}).update(kept)
    return [dict(sorted(row.items(), key=_place)) for row in rows.values()]


def _place(item: tuple[str, float]) -> tuple[int, str]:
    """Where a column stands: a log that comes back from a checkpoint has lost its order."""
    name = item[0]
    starts = (
        "epoch",
        "loss",
        "loss_task",
        "loss_",
        "learning_rate",
        "valid_loss",
        "valid_mae",
        "valid_corr",
    )
    for place, start in enumerate(starts):
        if name == start or (start.endswith("_") and name.startswith(start)):
            return place, name
    return len(starts), name


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """``{"acc2": {"nn_n": x}}`` as ``{"acc2_nn_n": x}``; plain numbers stay."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{inner}": v for inner, v in flat_metrics(value).items()}
        else:
            flat[name] = value
    return flat
