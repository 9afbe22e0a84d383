"""Checkpoints of an interrupted training: complete, whole, and of as many ranks as now.

The Trainer resumes from what it finds: without the state of the optimizer, the schedule or the
random numbers it goes on silently, to another result. ``checksums.json``, which is written last,
says what belongs to a checkpoint: without it, a checkpoint is incomplete, as a kill leaves it; with
it, every file must be there as it was written.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from transformers.trainer_callback import TrainerState

from reference_models.data.corpus import file_sha256
from reference_models.running import storage
from reference_models.running.folders import CHECKPOINTS

CHECKSUMS = "checksums.json"


def complete(checkpoint: Path) -> None:
    """Declare a checkpoint complete, once all of its files are on the disk."""
    files = sorted(path for path in checkpoint.iterdir() if path.name != CHECKSUMS)
    for path in files:
        storage.sync(path)
    sums = {path.name: file_sha256(path) for path in files}
    storage.write(checkpoint / CHECKSUMS, storage.json_text(sums))


def keep_only(folder: Path, *steps: int | None) -> None:
    """Remove all checkpoints but those of some steps."""
    for checkpoint in _numbered(folder):
        if checkpoint.name not in {f"checkpoint-{step}" for step in steps}:
            storage.remove(checkpoint)


def remove_incomplete(folder: Path) -> None:
    """Remove the checkpoints that were being written when the training was killed."""
    for checkpoint in _numbered(folder):
        if not (checkpoint / CHECKSUMS).exists():
            storage.remove(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; None if there is none."""
    return next((path for path in _numbered(folder) if (path / CHECKSUMS).exists()), None)


def epochs_done(folder: Path) -> int:
    """How many epochs of the unfinished run in a folder are done.

    Raises:
        ValueError: its last checkpoint is damaged.
    """
    last = last_checkpoint(folder / CHECKPOINTS)
    return 0 if last is None else round(trainer_state(last).epoch)


def check_run(folder: Path, processes: int) -> None:
    """Refuse an unfinished run that could not go on to the result of an uninterrupted one.

    Raises:
        ValueError: as :func:`check_resumable`.
    """
    stages = sorted(path for path in (folder / CHECKPOINTS).glob("*") if path.is_dir())
    for place in (folder / CHECKPOINTS, *stages):
        last = last_checkpoint(place)
        if last is not None:
            check_resumable(last, processes)


def check_resumable(last: Path, processes: int) -> TrainerState:
    """Check the checkpoint to resume from, and the one of the best epoch; the Trainer's state.

    Raises:
        ValueError: a file is missing or changed, or the training ran on another number of ranks.
    """
    found = {name for name in _check_whole(last) if name.startswith("rng_state")}
    expected = {f"rng_state_{rank}.pth" for rank in range(processes)}
    if found != (expected if processes > 1 else {"rng_state.pth"}):
        raise ValueError(
            f"{last}: expected the random states of {processes} rank(s), got those of {len(found)};"
            f" go on with as many, or {_start_over(last)}"
        )
    state = trainer_state(last)
    if state.best_global_step is not None:
        _check_whole(last.with_name(f"checkpoint-{state.best_global_step}"))
    return state


def trainer_state(checkpoint: Path) -> TrainerState:
    """The Trainer's own state; NaN is possible in it.

    Raises:
        ValueError: it cannot be read.
    """
    path = checkpoint / "trainer_state.json"
    try:
        state = TrainerState.load_from_json(str(storage.regular(path)))
        control = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        best = state.best_global_step
        if not (
            isinstance(control, bool)
            and isinstance(state.epoch, int | float)
            and math.isfinite(state.epoch)
            and isinstance(best, int | None)
            and all(isinstance(entry, dict) for entry in state.log_history)
        ):
            raise TypeError("other types")
    except Exception as error:  # a JSON of any content, given to a class
        raise damaged(path, error) from error
    return state


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file of a checkpoint that cannot be used; it says how to start over."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    if "weights_only" in str(error):  # torch's own words tell how to run what is in it
        words = "a pickle that is damaged or holds more than weights"
    checkpoint = path if path.name.startswith("checkpoint-") else path.parent
    return ValueError(
        f"{path}: expected what the training wrote there, got something else ({words:.200});"
        f" {_start_over(checkpoint)}"
    )


def _check_whole(checkpoint: Path) -> set[str]:
    """The names of its files, if each is as it was written."""
    path = checkpoint / CHECKSUMS
    try:
        sums = storage.read_json(path)
        if not isinstance(sums, dict):
            raise TypeError(f"a {type(sums).__name__}")
        for name, expected in sums.items():
            path = checkpoint / name
            if file_sha256(storage.regular(path)) != expected:
                raise ValueError("another checksum")
    except (OSError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    return set(sums)


def _start_over(checkpoint: Path) -> str:
    return f"to start over, delete {checkpoint.parent} and repeat the command"


def _numbered(folder: Path) -> Iterator[Path]:
    """What has a checkpoint's name, the newest first."""
    named = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*"))
    steps = sorted((int(match[1]) for match in named if match), reverse=True)
    return (folder / f"checkpoint-{step}" for step in steps)
