"""Names and sentences of data files: each a text of whole characters, each name once."""

from collections import Counter
from typing import Any

import numpy as np

from reference_models.data.columns import check_count
from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpt


def words(values: Any, count: int, where: str, *, text: bool = False) -> list[str]:
    """``count`` names, or sentences where ``text``; bytes are decoded."""
    if not isinstance(values, list | tuple | np.ndarray) or getattr(values, "ndim", 1) == 0:
        raise DataError(f"{where}: expected a list or an array, got {type(values).__name__}")
    check_count(len(values), count, where)
    if isinstance(values, np.ndarray):
        values = (values.reshape(-1) if values.size == len(values) else values).tolist()
    found = []
    for row, value in enumerate(values):
        value = decoded(value)
        if text and not isinstance(value, str):
            raise DataError(
                f"{where}: expected sentences, got {type(value).__name__} in row {row}; "
                "put an empty sentence where there is none"
            )
        found.append(text_of(value, f"{where}, row {row}"))
    return found if text else distinct(found)


def text_of(value: Any, where: str) -> str:
    """A text, or a number as one."""
    value = decoded(value)
    plain = value is None or isinstance(value, str | bool | int | float | np.generic)
    if not plain or (isinstance(value, int) and abs(value) >= 2**64):
        raise DataError(f"{where}: expected text or a number, got {excerpt(value)}; mend it")
    return str(value)


def distinct(names: list[str]) -> list[str]:
    """Every name once: those that several rows have are followed by their row."""
    counts = Counter(names)
    once = [name if counts[name] == 1 else f"{name}/{row}" for row, name in enumerate(names)]
    while len(set(once)) < len(once):  # "a", "a" and "a/1"
        once = [f"{name}/{row}" for row, name in enumerate(once)]
    return once


def decoded(value: Any) -> Any:
    """Bytes as text, text with whole characters only, anything else as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # halves of characters: pairs are joined, others replaced
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
