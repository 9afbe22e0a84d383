"""What runs on several ranks: the cases that a folder names, whose results go into it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bits.results import Results, result, write
from tests.ranks import run


class Folders(dict[str, Callable[[int, int], None]]):
    """A program for every folder."""

    def __missing__(self, folder: str) -> Callable[[int, int], None]:
        return partial(fill, Path(folder))


def fill(folder: Path, rank: int, world: int) -> None:
    """All cases on this rank."""
    found: Results = {}
    for name in (folder / "names").read_text().splitlines():
        found |= result(name, rank)
    write(folder / f"{rank}.npz", found)


if __name__ == "__main__":
    run(Folders())
