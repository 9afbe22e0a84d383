"""Run folders: their state, their lock, and what a kill leaves in them.

``config.json`` is written first, ``metrics.json`` last: a folder with only the first is an
unfinished run, which the same call resumes.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reference_models.running.storage import (
    csv_text,
    is_encodable,
    json_text,
    read_json,
    remove,
    write,
    writing,
)
from reference_models.training_config import NEWER

CHECKPOINTS = "checkpoints"
WORDS = {
    "empty": "an empty or absent folder",
    "other": "a folder that holds something else",
    "unfinished": "a run that did not finish; the call that began it goes on with it",
    "finished": "a finished run",
}


def state(folder: Path) -> str:
    """The state of a folder: "empty" (or absent), an "unfinished" or "finished" run, or "other"."""
    if not folder.exists() or (folder.is_dir() and all(map(_of_no_run, folder.iterdir()))):
        return "empty"
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return "other"
    if not isinstance(config, dict) or config.get("format") != 1 or "model" not in config:
        return "other"
    return "finished" if (folder / "metrics.json").is_file() else "unfinished"


def in_words(folder: Path) -> str:
    """The state of a folder as an error says it."""
    if folder.is_file():
        return "a file"
    damaged = state(folder) == "other" and (folder / "config.json").exists()
    return WORDS[state(folder)] + (" (its config.json is damaged, or not a run's)" * damaged)


def _of_no_run(path: Path) -> bool:
    """Whether it is all that a run leaves which is killed before its first file is complete."""
    if path.name == CHECKPOINTS and path.is_dir():
        return all(inner.name == "lock" for inner in path.iterdir())
    return path.name == "config.json.part"


def check_free(folder: Path) -> None:
    """Refuse a folder into which no run can be written.

    Checkpoints in a finished run, which a kill between its metrics and the clean-up has left there,
    are removed.

    Raises:
        ValueError: says what the folder holds, and what to do.
    """
    if not is_encodable(str(folder.absolute())):
        raise ValueError(
            f"--out {folder}: expected a path that UTF-8 can hold, got one with half a character,"
            " into which tokenizers cannot be written; name another folder"
        )
    remove_leftovers(folder)
    found = state(folder)
    if found in ("finished", "other"):
        raise ValueError(
            f"--out {folder}: expected a new or empty folder, or an unfinished run, got"
            f" {in_words(folder)}; name another folder"
            + (f", or see it with: evaluate {folder}" if found == "finished" else "")
        )


def remove_leftovers(folder: Path) -> None:
    """Remove the checkpoints of a finished run, unless the process that finishes it is at work."""
    checkpoints = folder / CHECKPOINTS
    if state(folder) != "finished" or not checkpoints.is_dir():
        return
    try:
        with FileLock(checkpoints / "lock", timeout=0):
            remove(checkpoints)
    except OSError:  # Timeout is one: they are in use; or the folder cannot be written
        pass


def new_folder(root: Path, model: str, seed: int) -> Path:
    """Create ``root/MODEL-seedN-<n>`` with the first free n."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        folder = root / f"{model}-seed{seed}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ValueError(f"--out: expected a free name in {root}, got none; name a folder")


def open_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Start a run in a folder, or check that the unfinished one in it has the same settings.

    Raises:
        ValueError: as ``check_free``; or an unfinished run with other settings, which are listed.
    """
    check_free(folder)
    if state(folder) == "empty":
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "config.json", json_text(config))
        return
    check_same(folder, config)


def check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a run with other settings.

    Raises:
        ValueError: lists what differs.
    """
    newer = {f"training.{name}": value for name, value in NEWER.items()}
    old, new = (
        newer | dict(_compared_settings(values))
        for values in (read_json(folder / "config.json"), config)
    )
    differences = [
        f"{key}: {old.get(key)!r:.60} there, {new.get(key)!r:.60} now"
        for key in old | new
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise ValueError(
            f"--out {folder}: expected the settings of the run that is in it, got others"
            f" ({'; '.join(differences)}); repeat its settings, or name another folder"
        )


def _compared_settings(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The settings that must agree, flat: not versions, nor where the data file is."""
    for key, value in config.items():
        name = prefix + key
        if name in ("versions", "left_out", "data.path", "data.labels", "data.known_as"):
            continue
        if isinstance(value, Mapping):
            yield from _compared_settings(value, f"{name}.")
        else:
            yield name, value


def write_history(folder: Path, rows: list[dict[str, float]], stage: str = "") -> None:
    """One row for each epoch, as CSV and as JSON; the file names of a stage have its name."""
    name = f"history-{stage}" if stage else "history"
    write(folder / f"{name}.csv", csv_text(rows))
    write(folder / f"{name}.json", json_text(rows))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; the operating system releases it if the process is killed.

    Raises:
        ValueError: another process holds it, or no run can be written there.
        OSError: the folder cannot be created or written.
    """
    check_free(folder)
    # In the checkpoints' folder, which is removed when the run is done, and the lock file with it.
    with writing(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / CHECKPOINTS / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"--out {folder}: expected a folder that no other process trains into, got one that"
            " does; wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for other processes that are in this block with a folder, which is made.

    For what two of them may make at once: the second then reads what the first has written. If one
    is killed, the operating system releases its lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        yield
