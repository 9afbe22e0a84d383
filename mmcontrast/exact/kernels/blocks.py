"""How much of a matrix of logits a program takes, by the generation of the GPU.

The blocks for H100 and H200 were found by hand, all others by what the compiler says of them: they
fit a program's shared memory and its registers. None of these was timed.
"""

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


Table = dict[int, Blocks]
"""By the number of features up to which a line is meant, the last beyond."""

# A program's registers hold a tile of logits and rows x width of the gradient, 128 KB at most; its
# shared memory the rows of x, where depth is all features, and those of y for each stage. Beyond
# the widest gradient it is made in parts, and its logits each time again: 7 products at 1024
# features by 512, where 5 would do.

# --- compute capability 9: products read shared memory, of at least 64 rows ---

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

# --- 8 and 12: products read registers, and rows may be few ---

SMALL_HALVES = {
    64: Blocks(128, 64, 64, 0, 4, 3),
    128: Blocks(128, 64, 128, 0, 4, 3),
    512: Blocks(128, 128, 32, 0, 8, 4),
}
SMALL_HALVES_GRADIENT = {
    64: Blocks(128, 64, 64, 64, 8, 3),
    128: Blocks(128, 64, 128, 128, 8, 3),
    256: Blocks(64, 64, 256, 256, 8, 2),
    512: Blocks(32, 32, 512, 512, 8, 2),
    8192: Blocks(64, 32, 32, 512, 8, 2),
}
SMALL_TF32_GRADIENT = {
    64: Blocks(128, 32, 64, 64, 8, 2),
    128: Blocks(64, 32, 128, 128, 4, 2),
    256: Blocks(64, 32, 32, 256, 8, 2),
    512: Blocks(32, 32, 32, 512, 8, 2),
}
# More shared memory: all features of a row at once up to 1024, in blocks of fewer rows.
AMPERE_HALVES_GRADIENT = {
    64: Blocks(128, 64, 64, 64, 8, 3),
    128: Blocks(128, 64, 128, 128, 8, 3),
    256: Blocks(128, 32, 256, 256, 8, 3),
    512: Blocks(64, 32, 512, 512, 8, 3),
    1024: Blocks(32, 32, 1024, 1024, 8, 2),
    8192: Blocks(64, 32, 32, 512, 8, 2),
}

# --- 10: sums and gradients are in a memory of their own, and tiles of logits pass registers ---

BLACKWELL_HALVES = {
    64: Blocks(64, 128, 64, 0, 4, 3),
    512: Blocks(64, 128, 64, 0, 8, 3),
}
BLACKWELL_HALVES_GRADIENT = {
    64: Blocks(128, 64, 64, 64, 4, 3),
    128: Blocks(128, 64, 128, 128, 8, 2),
    256: Blocks(64, 64, 256, 256, 8, 2),
    512: Blocks(64, 32, 512, 512, 8, 2),
    8192: Blocks(64, 32, 64, 512, 8, 2),
}
BLACKWELL_TF32 = {512: Blocks(64, 64, 32, 0, 4, 3)}

# --- all: products of float32 in float32, without tensor cores ---

IEEE = {512: Blocks(128, 64, 32, 0, 8, 2)}
IEEE_GRADIENT = {
    64: Blocks(64, 32, 64, 64, 4, 2),
    128: Blocks(64, 32, 128, 128, 8, 2),
    256: Blocks(32, 32, 256, 256, 8, 2),
    512: Blocks(32, 32, 32, 512, 8, 1),
}


class Generation(NamedTuple):
    """GPUs that take the same blocks."""

    shared: int
    """Bytes of shared memory that a program may have."""
    halves: tuple[Table, Table]
    """For the sums and for the gradient of rows in 16 bits, and so on."""
    tf32: tuple[Table, Table]
    ieee: tuple[Table, Table] = (IEEE, IEEE_GRADIENT)

    def tables(self, precision: str) -> tuple[Table, Table]:
        """For the sums and for the gradient."""
        return {"tf32": self.tf32, "ieee": self.ieee}.get(precision, self.halves)


HOPPER = Generation(227 * 1024, (HALVES, HALVES_GRADIENT), (TF32, TF32_GRADIENT))
AMPERE = Generation(163 * 1024, (SMALL_HALVES, AMPERE_HALVES_GRADIENT), (TF32, SMALL_TF32_GRADIENT))
SMALL = Generation(99 * 1024, (SMALL_HALVES, SMALL_HALVES_GRADIENT), (TF32, SMALL_TF32_GRADIENT))
BLACKWELL = Generation(
    227 * 1024, (BLACKWELL_HALVES, BLACKWELL_HALVES_GRADIENT), (BLACKWELL_TF32, TF32_GRADIENT)
)
Capability = tuple[int, int]
"""Major and minor number of the compute capability."""


def generation(capability: Capability) -> Generation | None:
    """Which blocks a GPU takes; None before 8.0, and for what is not known yet."""
    if capability in ((8, 0), (8, 7)):  # A100 and Orin, the two with more shared memory
        return AMPERE
    # A10 and RTX 30, RTX 40 and L4; H100 and H200; B200, GB300 and Thor; RTX 50.
    by_major = {8: SMALL, 9: HOPPER, 10: BLACKWELL, 11: BLACKWELL, 12: SMALL}
    return by_major.get(capability[0])


def chosen(
    features: int, precision: str, *, gradient: bool, capability: Capability = (9, 0)
) -> Blocks:
    """The blocks for rows of so many features: a fixed table, so that no run searches."""
    table = (generation(capability) or SMALL).tables(precision)[gradient]
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
