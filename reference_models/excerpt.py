"""Values of a file in messages and on the screen: short, on one line, and without control codes.

``repr`` makes the whole text before anybody can cut it: a nested list of a few hundred bytes, whose
parts are shared, has a ``repr`` larger than the memory. Here a value is cut before it is written.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any


def excerpt(value: Any, limit: int = 60) -> str:
    """A value as messages quote it: at most ``limit`` letters, and of a container its type.

    Lists of a few numbers or texts are written out.
    """
    if isinstance(value, str):
        return _cut(repr(str(value[: limit + 1])), limit)
    if isinstance(value, bytes):
        return _cut(repr(value[: limit + 1]), limit)
    if isinstance(value, int) and abs(value) >= 10**30:  # Python refuses to write very long ones
        return f"a whole number of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    few = isinstance(value, list | tuple) and len(value) <= 4
    if few and not any(isinstance(part, list | tuple) for part in value):
        return _cut(f"[{', '.join(excerpt(part, limit // 4) for part in value)}]", limit)
    return f"a {type(value).__name__}"


def excerpts(values: Iterable[Any], most: int = 10) -> str:
    """The first ``most`` values, such as the keys of a dict, in brackets."""
    first = list(islice(values, most + 1))
    more = ", ..." if len(first) > most else ""
    return f"[{', '.join(excerpt(value) for value in first[:most])}{more}]"


def printable(text: str, limit: int = 200) -> str:
    """A text without control characters and halves of characters, which are written as escapes."""
    letters = (letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:limit])
    return "".join(letters) + ("..." if len(text) > limit else "")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
