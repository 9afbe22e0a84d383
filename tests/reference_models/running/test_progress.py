"""The history, the line of every epoch, and the estimate where there is no bar."""

import time
from types import SimpleNamespace

import pytest

from reference_models.running.progress import PATIENCE, Progress, history_rows


def progress_at(state, monkeypatch, clock):
    """A training without a bar at its first step, and a clock that a test sets."""
    progress = Progress(lambda history: None, watched="valid", name="teacher: ")
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress.on_train_begin(None, state, None)
    assert progress.training_bar.disable  # stderr is no terminal here
    return progress


@pytest.mark.parametrize(
    ("step_takes", "steps", "words"),
    [
        # From the end of the first step on, 3 seconds later at the earliest.
        (4.0, 17, ["step 2 of 17, about 60 seconds to go", "step 17 of 17, about 0 seconds to go"]),
        (0.5, 61, ["step 7 of 61, about 27 seconds to go"]),
        (25.0, 6, ["step 2 of 6, about 2 minutes to go", "step 5 of 6, about 25 seconds to go"]),
        (7200.0, 3, ["step 2 of 3, about 2.0 hours to go", "step 3 of 3, about 0 seconds to go"]),
    ],
)
def test_without_a_bar_the_rest_is_estimated_now_and_then(
    step_takes, steps, words, monkeypatch, capsys
):
    state = SimpleNamespace(global_step=0, max_steps=steps, is_world_process_zero=True)
    clock = [100.0]
    progress = progress_at(state, monkeypatch, clock)
    for step in range(1, steps + 1):
        clock[0] += step_takes
        state.global_step = step
        progress.on_step_end(None, state, None)
    assert capsys.readouterr().err.splitlines() == [f"teacher: {line}" for line in words]


def test_the_line_of_an_epoch_puts_off_the_next_estimate(monkeypatch, capsys):
    log = [
        {"loss": 2.0, "loss_task": 2.0, "learning_rate": 0.1, "epoch": 1.0},
        {"eval_loss": 1.0, "epoch": 1.0},
    ]
    state = SimpleNamespace(global_step=1, max_steps=9, is_world_process_zero=True, log_history=log)
    clock = [0.0]
    progress = progress_at(state, monkeypatch, clock)
    progress.on_step_end(None, state, None)
    clock[0] = 2.0
    progress.on_evaluate(SimpleNamespace(num_train_epochs=2), state, None)
    line = "epoch   1/2  loss 2.0000 (task 2.0000)  valid loss 1.0000"
    assert capsys.readouterr().err == f"teacher: {line}\n"
    for at, said in ((61.0, ""), (62.0, "teacher: step 2 of 9, about 7 minutes to go\n")):
        clock[0], state.global_step = at, 2
        progress.on_step_end(None, state, None)
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(("first_rank", "disable"), [(False, True), (True, False)])
def test_other_ranks_and_bars_print_no_estimate(first_rank, disable, monkeypatch, capsys):
    progress = Progress(lambda history: None, watched="valid", name="")
    state = SimpleNamespace(global_step=0, max_steps=9, is_world_process_zero=first_rank)
    progress.on_train_begin(None, state, None)
    progress.training_bar = SimpleNamespace(disable=disable, update=lambda steps: None)
    clock = iter((0.0, PATIENCE, 2 * PATIENCE))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for step in (1, 2, 3):
        state.global_step = step
        progress.on_step_end(None, state, None)
    assert capsys.readouterr().err == ""


def test_the_history_is_one_row_an_epoch_of_what_does_not_change_from_run_to_run():
    log = [
        {
            "loss": 2.0,
            "loss_task": 2.0,
            "learning_rate": 0.1,
            "grad_norm": 3.0,
            "epoch": 1.0,
            "step": 3,
        },
        {
            "eval_loss": 1.25,
            "eval_mae": 1.5,
            "eval_runtime": 0.1,
            "eval_model_preparation_time": 0.2,
            "eval_samples_per_second": 9.0,
            "epoch": 1.0,
            "step": 3,
        },
        {"train_runtime": 5.0, "train_loss": 2.0, "epoch": 1.0, "step": 3},
    ]
    row = {"epoch": 1, "loss": 2.0, "loss_task": 2.0, "learning_rate": 0.1}
    assert history_rows(log) == [{**row, "valid_loss": 1.25, "valid_mae": 1.5}]
    assert history_rows(log, "test") == [{**row, "test_loss": 1.25, "test_mae": 1.5}]
    assert history_rows([]) == []


def test_columns_have_one_order_in_whatever_order_the_log_has_them():
    """Also of a log from a checkpoint, which has its keys sorted."""
    names = ("loss", "loss_task", "loss_intra", "learning_rate")
    watched = ("eval_loss", "eval_mae", "eval_corr", "eval_acc7")
    log = [dict.fromkeys(sorted((*some, "epoch")), 1.0) for some in (names, watched)]
    (row,) = history_rows(log)
    begin = ["epoch", "loss", "loss_task", "loss_intra", "learning_rate"]
    assert list(row) == [*begin, "valid_loss", "valid_mae", "valid_corr", "valid_acc7"]
