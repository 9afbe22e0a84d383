"""How much of a matrix of logits a program takes: found by hand for H100 and H200."""

import functools
from typing import NamedTuple


class Blocks(NamedTuple):
    """How much a program holds."""

    rows: int
    columns: int
    """Of a tile of logits."""
    depth: int
    """Features that a tile of logits takes at a time."""
    width: int
    """Features of the gradient that a program makes; 0 for the sums."""
    warps: int
    stages: int
    """How many tiles of rows are on their way from memory together."""


# By the number of features up to which a line is meant, the last beyond. A program's registers hold
# a tile of logits and rows x width of the gradient, 64 x 512 at most; its shared memory the rows of
# x, where depth is all features, and those of y for each stage. Beyond 512 features the gradient is
# made 512 at a time, and its logits each time again: 7 products at 1024, where 5 would do.
HALVES = {
    64: Blocks(128, 128, 64, 0, 4, 3),
    128: Blocks(128, 128, 128, 0, 8, 3),
    256: Blocks(128, 128, 256, 0, 8, 2),
    512: Blocks(128, 256, 64, 0, 8, 3),
}
HALVES_GRADIENT = {
    64: Blocks(128, 64, 64, 64, 4, 3),
    128: Blocks(128, 64, 128, 128, 8, 3),
    256: Blocks(128, 64, 256, 256, 8, 3),
    512: Blocks(64, 64, 512, 512, 8, 2),
    8192: Blocks(64, 64, 64, 512, 8, 2),
}
TF32 = {
    64: Blocks(128, 64, 64, 0, 4, 2),
    512: Blocks(128, 128, 32, 0, 8, 3),
}
TF32_GRADIENT = {
    64: Blocks(128, 32, 64, 64, 4, 2),
    128: Blocks(64, 32, 128, 128, 4, 2),
    256: Blocks(64, 32, 256, 256, 8, 2),
    512: Blocks(64, 32, 32, 512, 8, 1),
}
IEEE = {512: Blocks(128, 64, 32, 0, 8, 2)}
IEEE_GRADIENT = {
    64: Blocks(64, 32, 64, 64, 4, 2),
    128: Blocks(64, 32, 128, 128, 8, 2),
    256: Blocks(32, 32, 256, 256, 8, 2),
    512: Blocks(32, 32, 32, 512, 8, 1),
}
TABLES = {
    "bf16": (HALVES, HALVES_GRADIENT),
    "fp16": (HALVES, HALVES_GRADIENT),
    "tf32": (TF32, TF32_GRADIENT),
    "ieee": (IEEE, IEEE_GRADIENT),
}
SHARED = 227 * 1024  # bytes of shared memory that the blocks above may need
GENERATIONS = (9,)  # compute capability: H100 and H200. A100 has less, B200 would take other blocks


def chosen(features: int, precision: str, *, gradient: bool) -> Blocks:
    """The blocks for rows of so many features: a fixed table, so that no run searches."""
    table = TABLES[precision][gradient]
    return table[min((most for most in table if features <= most), default=max(table))]


def ceil(size: int, part: int) -> int:
    """How many parts hold it."""
    return -(-size // part)


@functools.lru_cache(maxsize=64)
def split(tall: int, wide: int, programs: int) -> tuple[int, int]:
    """Cut tall x wide blocks into (p, q) rectangles for so many programs: the largest is small.

    Each line of rectangles costs a line of partial sums, so that of the cuts within 10 % of the
    best the one nearest the square is taken: some 250 bytes a sample, where strips take 2 KB.
    """
    # All programs run at once, so the one with the largest rectangle decides the time. Of each
    # number p of rectangles down, q is as many across as there are programs left for.
    cuts = [(p, min(wide, programs // p)) for p in range(1, min(tall, programs) + 1)]
    largest = {cut: ceil(tall, cut[0]) * ceil(wide, cut[1]) for cut in cuts}
    good = [cut for cut in cuts if largest[cut] <= 1.1 * min(largest.values())]
    return min(good, key=sum)
