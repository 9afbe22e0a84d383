"""One run: its training into a folder, and its evaluation from there."""

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
from torch import nn

from reference_models.data.batch import ModalDataset
from reference_models.data.corpus import EMOTIONS, Corpus
from reference_models.data.loading import load_corpus
from reference_models.layers.stages import Stage
from reference_models.running import folders, records, storage
from reference_models.running.devices import device, ranks
from reference_models.running.loggers import reporting
from reference_models.running.masking import batch_change
from reference_models.running.metrics import task_metrics
from reference_models.running.parts import Parts
from reference_models.running.restoring import load, load_weights
from reference_models.running.training import fit, predict
from reference_models.training_config import SELECTIONS, TrainingConfig


@dataclass(frozen=True)
class _Run:
    """What the steps of a training share."""

    parts: Parts
    corpus: Corpus
    sets: Mapping[str, ModalDataset]
    folder: Path
    log_to: str | None
    log_name: str


def train(
    parts: Parts,
    corpus: Corpus,
    folder: Path,
    *,
    log_to: str | None = None,
    log_name: str | None = None,
) -> dict[str, Any]:
    """Train into a run folder, or resume the run in it; returns the content of ``metrics.json``.

    On several ranks, all of them make this call; the first one writes.

    Args:
        parts: of the run.
        corpus: the data that they were built for.
        folder: of the run.
        log_to: a logger of the Trainer, "tensorboard", "wandb" or "mlflow", that gets losses and
            metrics of every epoch; None: none.
        log_name: of the run in that logger; None: the folder's.

    Raises:
        ValueError: a folder that holds a finished run, another run or other files, or that another
            process trains into; an id that cannot be written; a damaged checkpoint; a loss that is
            not finite any more.
        OSError: a folder that cannot be written, a full disk; what was there is as it was.
    """
    processes = ranks()
    for name in (name for part in corpus.splits.values() for name in part.ids):
        if not storage.is_encodable(name):  # found now, and not after the training
            raise ValueError(
                f"{corpus.path}: expected ids that UTF-8 can hold, for predictions.csv, got"
                f" {name!r:.60}, with half a character"
            )
    with folders.locked(folder) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            _open(parts, folder)
        processes.wait_for_everyone()
        sets = {split: parts.dataset(corpus, split) for split in corpus.splits}
        run = _Run(parts, corpus, sets, folder, log_to, log_name or folder.name)
        stages = parts.model.stages() if hasattr(parts.model, "stages") else []
        for stage in stages:
            _train_stage(stage, run)
        best_epoch, history = _fit(run, parts.model, parts.training)
        results: dict[str, Any] = {}
        if processes.is_main_process:
            results = _finish(run)
            results |= {
                "best_epoch": best_epoch,
                "epochs": len(history),
                "selection": SELECTIONS[parts.training.selection],
                records.CHECKSUMS: records.checksums(folder),
            }
            storage.write(folder / "metrics.json", storage.json_text(results))
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return storage.read_json(folder / "metrics.json")
    shutil.rmtree(folder / folders.CHECKPOINTS)
    return results


def _open(parts: Parts, folder: Path) -> None:
    folders.open_run(folder, parts.config)
    if parts.tokenizer is not None:
        storage.write_folder(folder / "tokenizer", parts.tokenizer.save_pretrained)
    if parts.text_encoder is not None:
        storage.write_folder(folder / "text_encoder", parts.text_encoder.config.save_pretrained)
    if parts.standardizer is not None:
        scales = storage.json_text(parts.standardizer.to_dict())
        storage.write(folder / "standardizer.json", scales)


def _fit(
    run: _Run, network: nn.Module, training: TrainingConfig, name: str = ""
) -> tuple[int, list[dict[str, float]]]:
    def write_history(rows: list[dict[str, float]]) -> None:
        folders.write_history(run.folder, rows, name)

    with reporting(run.log_to, run.folder, name) as reporters:
        best_epoch, history = fit(
            network,
            run.sets["train"],
            run.sets[training.selection.removesuffix("_loss")],
            training,
            checkpoints=run.folder.resolve() / folders.CHECKPOINTS / name,
            seed=run.parts.config["seed"],
            pretrained=run.parts.config["text"]["encoder"] not in (None, "scratch"),
            on_epoch=write_history,
            task=run.corpus.task,
            classes=run.corpus.classes,
            change=batch_change(run.parts),
            name=f"{name}  " if name else "",
            reporters=reporters,
            run_name=f"{run.log_name}/{name}" if name else run.log_name,
        )
    if ranks().is_main_process:
        write_history(history)
    return best_epoch, history


def _train_stage(stage: Stage, run: _Run) -> None:
    """Train a stage, or load its weights if it was trained before a kill; then freeze it."""
    weights = _stage_weights(run.folder, stage)
    if weights.is_file():
        load_weights(stage.network, weights)
    else:
        stage.network.requires_grad_(True)
        training = replace(run.parts.training, **stage.training)
        _fit(run, stage.network, training, stage.name)
        processes = ranks()
        processes.wait_for_everyone()
        if processes.is_main_process:
            storage.write(weights, _tensor_bytes(stage.network))
            shutil.rmtree(run.folder / folders.CHECKPOINTS / stage.name)
        processes.wait_for_everyone()
    stage.network.requires_grad_(False).eval()


def _stage_weights(folder: Path, stage: Stage) -> Path:
    # Among the checkpoints, which are removed when the run is done.
    return folder / folders.CHECKPOINTS / f"{stage.name}.safetensors"


def _tensor_bytes(network: nn.Module) -> bytes:
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(tensors, {"format": "pt"})


def _finish(run: _Run) -> dict[str, Any]:
    """Write predictions, fused features and weights of the best epoch; the metrics by split."""
    parts, corpus, folder = run.parts, run.corpus, run.folder
    results, lines, fused = {}, [], {}
    for split in ("valid", "test"):
        part = corpus.splits[split]
        predictions, fused[split] = predict(
            parts.model, run.sets[split], batch_size=parts.training.batch_size
        )
        results[split] = task_metrics(corpus.task, predictions, part.labels, classes=corpus.classes)
        columns = prediction_columns(corpus.task, predictions, part.labels)
        for row, name in enumerate(part.ids):
            values = {column: value[row].item() for column, value in columns.items()}
            lines.append({"split": split, "id": records.quoted_id(name), **values})
    storage.write(folder / "predictions.csv", storage.csv_text(lines))
    storage.write(folder / "fused.safetensors", safetensors.numpy.save(fused))
    storage.write(folder / "model.safetensors", _tensor_bytes(parts.model))
    return results


def prediction_columns(
    task: str, predictions: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns of ``predictions.csv``, N values each.

    Scores: ``label`` and ``prediction``. Classes: both as 0 or 1, and ``score``, the logit of 1
    minus that of 0; for emotions, these three for each, followed by its name.
    """
    if task in ("sentiment", "sims"):
        return {"label": labels, "prediction": predictions}
    score = predictions[..., 1] - predictions[..., 0]
    columns = {"label": labels, "prediction": (score > 0).astype(np.int64), "score": score}
    if task == "humor":
        return columns
    return {
        f"{column}_{emotion}": values[:, at]
        for at, emotion in enumerate(EMOTIONS)
        for column, values in columns.items()
    }


def evaluate(
    folder: Path, *, data: str | None = None, labels: str | None = None, split: str = "test"
) -> dict[str, Any]:
    """The metrics of a finished run on a split of its own data file, or of another.

    Raises:
        ValueError: no finished run, a damaged one, a file of another task, or, without ``data``,
            another file in the place of the run's own; DataError: no such file, or not what the
            network reads.
    """
    parts = load(folder)
    corpus = data_of(folder, parts.config, data=data, labels=labels)
    parts.model.to(device())
    dataset = parts.dataset(corpus, split)
    predictions, _ = predict(parts.model, dataset, batch_size=parts.training.batch_size)
    true = corpus.splits[split].labels
    return task_metrics(corpus.task, predictions, true, classes=corpus.classes)


def data_of(
    folder: Path, config: Mapping[str, Any], *, data: str | None = None, labels: str | None = None
) -> Corpus:
    """The data of the finished run in a folder, or other data of its task.

    Raises:
        ValueError: a file of another task, or, without ``data``, another file in the place of the
            run's own; DataError: no such file.
    """
    own = config["data"]
    corpus = load_corpus(
        data or own["path"], labels=labels or (own.get("labels") if data is None else None)
    )
    if data is None and corpus.sha256 != own["sha256"]:
        raise ValueError(
            f"{corpus.path}: expected the file that the run in {folder} was trained on, got another"
            " of that name; to evaluate on it, name it with --data"
        )
    if corpus.task != own["task"]:
        raise ValueError(
            f"{corpus.path}: expected the task {own['task']}, which the run in {folder} is for,"
            f" got {corpus.task}"
        )
    return corpus
