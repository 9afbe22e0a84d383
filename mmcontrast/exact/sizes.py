"""Every size at which the evaluation changes, with the measurement that set it.

Read at each call as ``sizes.NAME``, so that a test or a user on another machine can set one. All
figures are for float32 on one core of a CPU with 2 MB of second-level cache unless they say
otherwise; ``python -m tests.benchmarks.thresholds`` measures them again.
"""

# --- InfoNCE and the sigmoid loss ---

TILE = 512
"""Rows and columns of a tile of logits: 1 MB, which the second-level cache holds."""

WIDE = (2 * TILE, TILE // 2)
"""Rows and columns of a tile of the same size whose matrix products are faster."""

BLOCK = 2**20
"""Logits of a block of whole rows: 4 MB, which the third-level cache holds."""

SPLIT = 2**15
"""Logits from which a matrix is made in blocks or tiles at all."""

AT_ONCE = 2**16
"""Logits up to which a matrix and its copies stay in memory until the backward pass: passes over
so few take no longer than the calls."""

SIGMOID_TILES = TILE**2
"""Logits from which the sigmoid loss is faster in tiles than all at once."""

RING = 2**26
"""Numbers in the candidates of all ranks (256 MB) from which they are passed around the ranks
instead of gathered. A limit on memory, not a measurement of speed."""

KERNELS = 2**22
"""Logits from which the Triton kernels are taken on a GPU: a guess, for below it launching takes
longer than computing."""

# --- SupCon ---

SUPCON_SIDE = {"cpu": 384, "other": 4096}
"""Rows and columns of a tile, by device."""

SUPCON_RANKS = {"cpu": 16, "other": 2}
"""Ranks up to which each one evaluates the tiles of all ranks' samples, though it needs only its
own. Its own rows alone take twice the matrix products of all tiles, divided by the number of ranks,
and on a CPU many times that in exponentials."""

LOOKED_UP = 64
"""Rows, sorted by class, whose columns of the same classes are looked up together on a CPU."""

# --- mining ---

RANKED = 448**2
"""Similarities from which blocks of rows are faster than all at once."""

RANKED_BLOCK = 2**20
"""Similarities of a block on a CPU: 4 MB, which the third-level cache holds. 64 times that on other
devices."""

GROUP = 8
"""Columns of a group, of which only the maximum is ranked at first."""

TOPK = 128
"""Columns up to which ``topk`` is the fastest, which leaves the order of equal ones open."""

SORTED = 80
"""Columns up to which a sort is faster than groups."""

# --- HyCon ---

MOMENTS = 200
"""Samples from which class moments are faster than all similarities."""

MOMENTS_CLASS = 128
"""Samples from which a class has moments; never below D, or they would outgrow the features."""

MOMENTS_PART = 2048
"""Samples of a class at a time."""

MOMENTS_RUN = 64
"""Samples whose products are added up in the rows' own precision, before float64 takes over."""

SIMILARITIES = 2**22
"""Similarities at a time, where all of them are needed: 16 MB."""
