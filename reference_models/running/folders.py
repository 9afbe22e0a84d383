"""Run folders: their state, and files that are written completely or not at all.

``config.json`` is written first, ``metrics.json`` last: a folder with only the first is an
unfinished run, which the same call resumes.
"""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

CHECKPOINTS = "checkpoints"
WORDS = {
    "empty": "an empty or absent folder",
    "other": "a folder that holds something else",
    "unfinished": "a run that did not finish; the call that began it goes on with it",
    "finished": "a finished run",
}


def state(folder: Path) -> str:
    """The state of a folder: "empty" (or absent), an "unfinished" or "finished" run, or "other"."""
    # A run that was killed before its first file was complete has left nothing but these.
    if not folder.exists() or (
        folder.is_dir()
        and all(path.name in (CHECKPOINTS, "config.json.part") for path in folder.iterdir())
    ):
        return "empty"
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return "other"
    if not isinstance(config, dict) or config.get("format") != 1 or "model" not in config:
        return "other"
    return "finished" if (folder / "metrics.json").is_file() else "unfinished"


def check_free(folder: Path) -> None:
    """Refuse a folder into which no run can be written.

    Raises:
        ValueError: says what the folder holds, and what to do.
    """
    found = state(folder)
    if found in ("finished", "other"):
        raise ValueError(
            f"--out {folder}: expected a new or empty folder, or an unfinished run, got"
            f" {WORDS[found]}; name another folder"
            + (f", or see it with: evaluate {folder}" if found == "finished" else "")
        )


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


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, left by a kill, are removed.

    A checkpoint's ``trainer_state.json`` is written last: if it can be read, the rest is complete.
    """
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.rpartition("-")[2]))
    for checkpoint in numbered:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            shutil.rmtree(checkpoint)
        else:
            return checkpoint
    return None


def epochs_done(folder: Path) -> int:
    """How many epochs of an unfinished run are done."""
    last = last_checkpoint(folder / CHECKPOINTS)
    if last is None:
        return 0
    return round(read_json(last / "trainer_state.json")["epoch"])


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
    old, new = (
        dict(_compared_settings(values)) for values in (read_json(folder / "config.json"), config)
    )
    differences = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
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


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the error if writing it fails, whichever library was writing.

    Raises:
        OSError: instead of the library's own error, which may not name the file: on a full disk,
            some report just an offset.
    """
    try:
        yield
    except Exception as error:
        words = " ".join(str(error).split())
        raise OSError(
            f"{path}: could not be written ({words}); is the disk full, or the folder not to be"
            " written? What was there before still is, and the same command goes on"
        ) from error


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers, also after a kill, see the old file or the new one."""
    partial = path.with_name(f"{path.name}.part")
    with writing(path):
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)


def write_folder(path: Path, save: Callable[[str], Any]) -> None:
    """Write a folder atomically; ``save`` fills the folder that it is given."""
    partial = path.with_name(f"{path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(path):
        save(str(partial))
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)


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


def csv_text(rows: list[dict[str, Any]]) -> str:
    """One or more rows, with the same keys, as CSV with a header."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def json_text(values: Any) -> str:
    """Indented JSON; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n"


def _without_nan(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
