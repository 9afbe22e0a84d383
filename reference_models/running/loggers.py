"""Loggers of the transformers Trainer that a run can be handed to: ``--log-to``.

What they get at the end of every epoch: ``train/loss``, ``train/loss_<term>`` (each term times its
weight), ``train/learning_rate``, and the metrics of the split that chooses the epoch as
``eval/mae``, ``eval/corr``, ... (MLflow has ``_`` for ``/`` there, and no ``train``).
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from reference_models.running.devices import ranks

LOGGERS = ("tensorboard", "wandb", "mlflow")
FOLDER = "tensorboard"


def check_logger(logger: str | None) -> None:
    """Refuse a logger that is not known, or whose package is not there; None is no logger.

    Raises:
        ValueError: names the flag, and the command that installs the package.
    """
    if logger is None:
        return
    if logger not in LOGGERS:
        raise ValueError(f"--log-to: expected one of {', '.join(LOGGERS)}, got {logger!r}")
    found = importlib.util.find_spec(logger)
    # A folder of that name where the command runs, as wandb leaves one, is no package.
    if found is None or found.origin is None:
        raise ValueError(
            f"--log-to {logger}: expected its package to be installed, got none; pip install"
            f" {logger}"
        )


@contextmanager
def reporting(logger: str | None, folder: Path, stage: str = "") -> Iterator[list[TrainerCallback]]:
    """The Trainer's own callback for a logger, which is closed in the end whatever happens.

    TensorBoard's files are in ``tensorboard`` of the run folder, those of a part that is trained
    before the network in a folder of its name below. The others write where they always do.

    Args:
        logger: one of :data:`LOGGERS`, or None.
        folder: of the run.
        stage: the part; "" is the network.
    """
    if logger is None:
        yield []
        return
    check_logger(logger)
    (kind,) = get_reporting_integration_callbacks([logger])
    if logger == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        first = ranks().is_main_process
        writer = SummaryWriter(str(folder / FOLDER / stage)) if first else None
        try:
            yield [kind(writer)]
        finally:
            if writer is not None:
                writer.close()
        return
    callback = kind()  # which imports the package
    package = sys.modules[logger]
    begun = _active(package)  # by the caller, who goes on with it
    try:
        yield [callback]
    finally:  # else the next seed would go on with this one's run
        if begun is None and _active(package) is not None:
            (package.finish if logger == "wandb" else package.end_run)()


def _active(package: Any) -> Any:
    """The run that a package logs into, or None."""
    return package.active_run() if hasattr(package, "active_run") else package.run
