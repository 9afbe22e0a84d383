"""Files: written completely or not at all, and read only if they are what they should be."""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

LARGEST_JSON = 64 * 2**20  # bytes; a history of a thousand epochs has about one
DEEPEST_JSON = 20  # levels; nothing here has more than five


# --- writing -------------------------------------------------------------------------------------


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
            f"{path}: could not be written ({words}); is the disk full, the folder read-only, or"
            " the name a folder's? What was there before still is, and the same command goes on"
        ) from error


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers, also after a kill, see the old file or the new one.

    Half a character, which UTF-8 cannot hold, is written as an escape.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    partial = path.with_name(f"{path.name}.part")
    with writing(path):
        remove(partial)  # of an earlier kill
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # on the disk before it has its name
            os.replace(partial, path)
        except BaseException:
            remove(partial)  # a full disk has no room for it
            raise


def write_folder(path: Path, save: Callable[[str], Any]) -> None:
    """Write a folder atomically; ``save`` fills the folder that it is given."""
    partial = path.with_name(f"{path.name}.part")
    with writing(path):
        remove(partial)
        try:
            save(str(partial))
            for file in partial.rglob("*"):
                if file.is_file():
                    sync(file)
            remove(path)
            os.replace(partial, path)
        except BaseException:
            remove(partial)
            raise


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: half of a surrogate pair, it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sync(path: Path) -> None:
    """Have the content of a file on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove whatever is there: a file, a link, a pipe or a folder; or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def csv_text(rows: list[dict[str, Any]]) -> str:
    """One or more rows, with the same keys, as CSV with a header."""
    file = io.StringIO(newline="")
    # A lone carriage return also ends a line for readers, but the writer does not quote it.
    returns = any("\r" in str(value) for row in rows for value in row.values())
    quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(file, rows[0], lineterminator="\n", quoting=quoting)
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


# --- reading -------------------------------------------------------------------------------------


def regular(path: Path) -> Path:
    """The path, if a regular file is there: a pipe would keep its reader waiting for ever.

    Raises:
        FileNotFoundError: there is nothing; ValueError: there is something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a file, got none")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path}: expected a file, got {kind}")
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file, as :func:`json_text` writes it: NaN and infinities are None.

    Raises:
        FileNotFoundError: no file; ValueError: not JSON, or a whole number of more than 18 digits
            or nesting of more than ``DEEPEST_JSON`` levels, neither of which is ever written.
    """
    size = regular(path).stat().st_size
    if size > LARGEST_JSON:
        raise ValueError(f"{path}: expected at most {LARGEST_JSON} bytes of JSON, got {size}")
    try:
        values = json.loads(
            path.read_bytes().decode("utf-8"),
            parse_constant=lambda text: None,
            parse_int=_whole_number,
            parse_float=_finite_number,
        )
        _check_depth(values, DEEPEST_JSON)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got something else ({error})") from error
    return values


def _whole_number(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite_number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _check_depth(values: Any, left: int) -> None:
    if isinstance(values, dict | list):
        if left == 0:
            raise ValueError(f"more than {DEEPEST_JSON} levels")
        for value in values.values() if isinstance(values, dict) else values:
            _check_depth(value, left - 1)


def read_shapes(path: Path) -> dict[str, torch.Size]:
    """The shapes of the tensors of a safetensors file, by its header alone.

    Raises:
        FileNotFoundError: no file; ValueError: a damaged one.
    """
    regular(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in names}
    except Exception as error:
        raise _damaged_tensors(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: no file; ValueError: a damaged one.
    """
    regular(path)
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # SafetensorError, or what a strange header leads to
        raise _damaged_tensors(path, error) from error


def _damaged_tensors(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: expected a safetensors file, got a damaged one ({error})")
