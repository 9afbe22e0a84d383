"""The history and the line of every epoch."""

from reference_models.running.progress import history_rows


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
