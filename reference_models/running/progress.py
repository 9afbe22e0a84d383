"""The progress of a training: a bar or an estimate, a line for each epoch, and the history."""

import math
import sys
import time
from collections.abc import Callable, Mapping

from tqdm.auto import tqdm
from transformers import ProgressCallback

PATIENCE = 3.0
"""Seconds of training after which the rest can be estimated."""
SILENCE = 60.0
"""Seconds after a line without a bar, after which the next one says how far the training is."""


class Progress(ProgressCallback):
    """A bar over the steps on a terminal, elsewhere estimates; after each epoch a line.

    An estimate is a line, after some seconds of training and then after each minute in which
    nothing else was said: a file or a pipe would show nothing until the end of an epoch.

    Args:
        on_epoch: takes the history so far, on the first rank.
        watched: the split that the history's metrics are of.
        name: of what is trained, in front of each line.
    """

    def __init__(
        self, on_epoch: Callable[[list[dict[str, float]]], None], *, watched: str, name: str
    ) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.watched = watched
        self.name = name

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Open the bar, at the first step of this call: a resumed run has earlier ones."""
        self.current_step = state.global_step
        self.first: tuple[int, float] | None = None  # the first step of this call, and its end
        self.due = math.inf  # when the next estimate is
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                disable=None,  # unless it is a terminal
                leave=False,
                file=sys.stderr,
            )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Move the bar on; or say now and then how long the rest takes."""
        super().on_step_end(args, state, control, **kwargs)
        now = time.monotonic()
        if self.first is None:  # which takes longer than the others
            self.first, self.due = (state.global_step, now), now + PATIENCE
        step, started = self.first
        if now < self.due or not state.is_world_process_zero or not self.training_bar.disable:
            return
        self.due = now + SILENCE
        left = (now - started) / (state.global_step - step) * (state.max_steps - state.global_step)
        words = f"step {state.global_step} of {state.max_steps}, about {_duration(left)} to go"
        tqdm.write(f"{self.name}{words}", file=sys.stderr)

    def on_log(self, args, state, control, **kwargs) -> None:
        """Print nothing: the epoch's line has these values."""

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        """After an epoch: print its line, and pass on the history."""
        if state.is_world_process_zero:
            history = history_rows(state.log_history, self.watched)
            line = _epoch_line(history[-1], args.num_train_epochs, self.watched)
            tqdm.write(f"{self.name}{line}", file=sys.stderr)
            self.due = time.monotonic() + SILENCE
            self.on_epoch(history)


def _duration(seconds: float) -> str:
    """A duration to one unit: "50 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


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
    """One row for each epoch of a Trainer's log: epoch, loss, loss_*, learning_rate, valid_*.

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
    """The sort key of a column: a log that was read from a checkpoint has lost its order."""
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
