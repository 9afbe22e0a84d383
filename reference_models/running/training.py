"""Training one network with the Trainer of transformers, and predicting with it.

The Trainer (on Accelerate) brings the loop, several devices, mixed precision, early stopping and
resuming; ``trainer`` and ``progress`` hold what it does not bring.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalPrediction

from reference_models.data.batch import Batch, collate
from reference_models.running.checkpoints import (
    check_resumable,
    last_checkpoint,
    remove_incomplete,
)
from reference_models.running.devices import device, ranks
from reference_models.running.metrics import flat_metrics, task_metrics
from reference_models.running.progress import Progress, history_rows
from reference_models.running.storage import read_tensors
from reference_models.running.trainer import Change, NotFinite, TermTrainer, Trainee
from reference_models.training_config import TrainingConfig


def fit(
    model: nn.Module,
    train_set: Dataset,
    watched_set: Dataset,
    config: TrainingConfig,
    *,
    checkpoints: Path,
    seed: int,
    pretrained: bool,
    on_epoch: Callable[[list[dict[str, float]]], None],
    task: str = "sentiment",
    classes: Collection[int] = (7, 5),
    change: Change | None = None,
    name: str = "",
    reporters: Sequence[TrainerCallback] = (),
    run_name: str | None = None,
) -> tuple[int, list[dict[str, float]]]:
    """Train a network in place; a run that was killed resumes from its last checkpoint.

    Args:
        model: ``forward(Batch) -> Output``; it ends with the weights of its best epoch.
        train_set, watched_set: samples that ``collate`` takes; the second is the split that
            ``config.selection`` names.
        config: the training.
        checkpoints: folder of the checkpoints: the last and the best epoch.
        seed: of the order of the batches, and of dropout, which each rank draws for itself.
        pretrained: whether the text encoder in the network is a pretrained one.
        on_epoch: called after each epoch's validation with the history so far, on the first rank.
        task, classes: of the metrics in the history, as ``task_metrics`` takes them.
        change: of each training batch, before it is read; see :class:`TermTrainer`.
        name: of what is trained, in front of each line.
        reporters, run_name: loggers of the Trainer, and the name that the run has in them.

    Returns:
        The best epoch (lowest loss on the watched split), and the history: one row an epoch.

    Raises:
        NotFinite: a loss, or all losses on the watched split, that are not finite.
        ValueError: a batch size that the ranks cannot share; a checkpoint from which the training
            would not go on as if it had not been killed.
    """
    watched = config.selection.removesuffix("_loss")
    arguments = _arguments(config, checkpoints, seed, run_name)
    with arguments.main_process_first():
        if ranks().is_main_process:
            remove_incomplete(checkpoints)
        last = last_checkpoint(checkpoints)
        state = None if last is None else check_resumable(last, ranks().num_processes)
    trainee = Trainee(model)
    trainer = TermTrainer(
        model=trainee,
        args=arguments,
        data_collator=collate,
        train_dataset=train_set,
        eval_dataset=watched_set,
        compute_metrics=partial(_epoch_metrics, task, classes),
        callbacks=[
            EarlyStoppingCallback(config.patience or config.epochs),
            Progress(on_epoch, watched=watched, name=name),
            *reporters,
        ],
        head_learning_rate=config.head_learning_rate or config.learning_rate,
        pretrained=pretrained,
        change=change,
    )
    trainer.remove_callback(PrinterCallback)
    # All ranks start from the same weights, but draw their own dropout and negatives.
    set_seed(seed + arguments.process_index)
    # A run that had stopped early must not train on: the Trainer does not check that on resuming.
    if (
        state is None
        or not state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
    ):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        state = trainer.state
    if state.best_global_step is None:
        raise NotFinite(
            f"{watched} loss: expected a finite number after one of {round(state.epoch)} epochs,"
            " got none; lower learning_rate or head_learning_rate, or set max_grad_norm"
        )
    best = checkpoints / f"checkpoint-{state.best_global_step}"
    trainee.load_state_dict(read_tensors(best / "model.safetensors"))
    history = history_rows(state.log_history, watched)
    steps = {round(e["epoch"]): e["step"] for e in state.log_history if "eval_loss" in e}
    return next(e for e, step in steps.items() if step == state.best_global_step), history


def _epoch_metrics(task: str, classes: Collection[int], result: EvalPrediction) -> dict[str, float]:
    """The metrics of the history, without those of the second protocol."""
    metrics = task_metrics(task, result.predictions, result.label_ids, classes=classes)
    metrics.pop("mag_bert", None)
    return flat_metrics(metrics)


def _arguments(
    config: TrainingConfig, checkpoints: Path, seed: int, run_name: str | None
) -> TrainingArguments:
    processes = ranks().num_processes
    if config.batch_size % processes:
        raise ValueError(
            f"batch_size: expected a multiple of {processes}, the number of ranks that share it,"
            f" got {config.batch_size}"
        )
    warm = config.schedule == "constant" and config.warmup_ratio > 0
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        run_name=run_name,
        per_device_train_batch_size=config.batch_size // processes,
        per_device_eval_batch_size=config.batch_size // processes,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant_with_warmup" if warm else config.schedule,
        warmup_steps=config.warmup_ratio,
        max_grad_norm=config.max_grad_norm,
        use_cpu=device().type == "cpu",  # without it, bf16 is refused on a CPU
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        seed=seed,
        data_seed=seed,
        report_to="none",  # ``fit`` is given the loggers
        log_level="error",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # One device for each process: DataParallel would split the batch, and the contrastive terms
    # compare within a batch.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def predict(
    model: nn.Module, dataset: Dataset, *, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N,) and fused features (N, D) of a whole split, in its order, in float32."""
    device = next(model.parameters()).device
    model.eval()
    predictions, fused = [], []
    with torch.no_grad():
        for collated in DataLoader(dataset, batch_size=batch_size, collate_fn=collate):
            output = model(Batch(**collated).to(device))
            predictions.append(output.prediction.float().cpu())
            fused.append(output.fused.float().cpu())
    return torch.cat(predictions).numpy(), torch.cat(fused).numpy()
