"""Checkpoints: the newest complete one is whole, of as many ranks as now, or refused."""

import json
import os
import shutil

import pytest

from reference_models.running import checkpoints, folders
from reference_models.running.checkpoints import CHECKSUMS

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt")


def trainer_state(epoch, best=None, **changes):
    control = {"TrainerControl": {"args": {"should_training_stop": False}, "attributes": {}}}
    state = {"epoch": epoch, "best_global_step": best, "stateful_callbacks": control}
    return json.dumps(state | {"log_history": [{"loss": float("nan")}]} | changes)


def write_checkpoint(folder, step, *, ranks=1, content=None, complete=True, best=None):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    random = [f"rng_state_{rank}.pth" for rank in range(ranks)] if ranks > 1 else ["rng_state.pth"]
    for name in (*FILES, *random):
        (checkpoint / name).write_text(f"{name} at {step}")
    text = trainer_state(step / 10, best) if content is None else content
    (checkpoint / "trainer_state.json").write_text(text)
    if complete:
        checkpoints.complete(checkpoint)
    return checkpoint


def test_the_last_checkpoint_is_the_newest_complete_one(tmp_path):
    assert checkpoints.last_checkpoint(tmp_path / "absent") is None
    for step in (8, 16, 100):
        write_checkpoint(tmp_path, step, complete=step < 100)
    (tmp_path / "checkpoint-notes").mkdir()
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-16"
    assert (tmp_path / "checkpoint-100").exists()  # another process may be writing it
    checkpoints.remove_incomplete(tmp_path)
    left = {"checkpoint-8", "checkpoint-16", "checkpoint-notes"}
    assert {path.name for path in tmp_path.iterdir()} == left
    checkpoints.keep_only(tmp_path, 16, None)
    assert not (tmp_path / "checkpoint-8").exists()


def test_epochs_that_are_done(tmp_path):
    assert checkpoints.epochs_done(tmp_path) == 0
    last = write_checkpoint(tmp_path / folders.CHECKPOINTS, 40)
    assert checkpoints.epochs_done(tmp_path) == 4
    (last / "trainer_state.json").write_text("")
    with pytest.raises(ValueError, match=r"trainer_state\.json: expected what the training wrote"):
        checkpoints.epochs_done(tmp_path)


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "rng_state.pth", "trainer_state.json"])
@pytest.mark.parametrize("which", ["last", "best"])
def test_no_damaged_checkpoint_is_gone_on_from(name, damage, which, tmp_path):
    places = {"best": write_checkpoint(tmp_path, 10)}
    places["last"] = write_checkpoint(tmp_path, 20, best=10)
    assert checkpoints.check_resumable(places["last"], 1).best_global_step == 10
    damage(places[which] / name)
    with pytest.raises(ValueError, match="expected what the training wrote") as caught:
        checkpoints.check_resumable(places["last"], 1)
    assert str(places[which] / name) in str(caught.value)
    assert f"to start over, delete {tmp_path} and repeat the command" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_checkpoint_of_the_best_epoch_must_be_there(tmp_path):
    last = write_checkpoint(tmp_path, 20, best=10)
    with pytest.raises(
        ValueError, match=r"checkpoint-10.*: expected what the training wrote there"
    ):
        checkpoints.check_resumable(last, 1)


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_another_number_of_ranks_would_draw_other_numbers(before, now, tmp_path):
    last = write_checkpoint(tmp_path, 20, ranks=before)
    checkpoints.check_resumable(last, before)
    with pytest.raises(ValueError, match=rf"random states of {now} rank.* got those of {before};"):
        checkpoints.check_resumable(last, now)


STATES = {
    "empty": "",
    "a list": "[]",
    "unknown fields": trainer_state(1, colour=3),
    "no control": trainer_state(1, stateful_callbacks={}),
    "text for an epoch": trainer_state("one"),
    "no epoch": trainer_state(float("nan")),
    "other rows": trainer_state(1, log_history=[3]),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("content", STATES.values(), ids=STATES)
def test_a_state_of_another_kind_is_refused_though_its_checksum_is_right(content, tmp_path):
    last = write_checkpoint(tmp_path, 20, content=content)
    with pytest.raises(ValueError, match=r"trainer_state\.json: expected what the training wrote"):
        checkpoints.check_resumable(last, 1)


@pytest.mark.parametrize("content", ["", "[]", '{"model.safetensors": 3}', "\xff"])
def test_damaged_checksums_are_no_reason_to_start_over_silently(content, tmp_path):
    last = write_checkpoint(tmp_path, 20)
    (last / CHECKSUMS).write_text(content, encoding="latin1")
    with pytest.raises(ValueError, match="expected what the training wrote there"):
        checkpoints.check_resumable(last, 1)


def test_a_run_is_checked_with_its_stages(tmp_path):
    checkpoints.check_run(tmp_path / "absent", 1)
    write_checkpoint(tmp_path / folders.CHECKPOINTS, 10)
    stage = write_checkpoint(tmp_path / folders.CHECKPOINTS / "teacher", 30)
    checkpoints.check_run(tmp_path, 1)
    (stage / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match=r"teacher/checkpoint-30/optimizer\.pt: expected"):
        checkpoints.check_run(tmp_path, 1)
    shutil.rmtree(stage.parent)
    checkpoints.check_run(tmp_path, 1)
