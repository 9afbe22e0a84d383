"""The history, the line of every epoch, and the estimate where there is no bar."""

import time
from types import SimpleNamespace

import pytest

from reference_models.running.progress import PATIENCE, Progress, history_rows


@pytest.mark.parametrize(
    ("step_takes", "steps", "words"),
    [
        (4.0, 100, "step 4 of 100, about 6 minutes to go"),  # 96 steps of 4 s
        (0.5, 61, "step 21 of 61, about 20 seconds to go"),
        (120.0, 200, "step 2 of 200, about 6.6 hours to go"),
    ],
)
def test_without_a_bar_the_rest_is_estimated_once(step_takes, steps, words, monkeypatch, capsys):
    progress = Progress(lambda history: None, watched="valid", name="teacher: ")
    state = SimpleNamespace(global_step=0, max_steps=steps, is_world_process_zero=True)
    clock = iter(100 + step_takes * step for step in range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress.on_train_begin(None, state, None)
    assert progress.training_bar.disable  # stderr is no terminal here
    for step in range(1, 40):
        state.global_step = step
        progress.on_step_end(None, state, None)
    assert capsys.readouterr().err == f"teacher: {words}\n"


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
