"""Every size at which the evaluation changes, with the measurement that set it.

Read at each call as ``sizes.NAME``, so that a user on another machine, or a test, can set one.
Times are milliseconds for forward and backward of rows with 64 features (HyCon: 50) in float32 on
one core, as ``python -m tests.benchmarks.thresholds`` prints them.
"""

# --- InfoNCE and the sigmoid loss ---

TILE = 512
"""Rows and columns of a tile of logits: 1 MB, which the second-level cache holds."""

WIDE = (2 * TILE, TILE // 2)
"""Rows and columns of a tile of the same size whose products are faster. At 4096 samples 120; with
(512, 512) 127, with (1024, 1024) 133, with (256, 256) 138."""

BLOCK = 2**20
"""Logits of a block of whole rows: 4 MB, which the third-level cache holds. At 4096 samples 95;
with a quarter of it 105, with four times 98."""

SPLIT = 2**15
"""Logits from which a matrix is made in parts, for the memory: up to here it takes 128 KB. Under a
mask, parts take longer at any size: at 256 samples 6.4 against 3.5, at 512 20 against 11."""

AT_ONCE = 2**16
"""Logits up to which a matrix for each direction stays in memory until the backward pass. At 256
samples both ways take 0.92; at 362, 1.72 against 1.43 for one matrix; at 512, 3.6 against 2.9."""

SIGMOID_TILES = TILE**2
"""Logits from which the sigmoid loss is evaluated in tiles: at 512 samples 2.55 against 2.57 at
once, at 256 0.98 against 0.86, at 724 4.4 against 4.7."""

RING = 2**26
"""Numbers in the candidates of all ranks (256 MB) from which they are passed around the ranks
instead of gathered. A limit on memory, not a measurement of time."""

KERNELS = 2**22
"""Logits from which the Triton kernels are taken on a GPU. Not measured: a guess that below it
launching takes longer than computing."""

# --- SupCon ---

SUPCON_SIDE = {"cpu": 384, "other": 4096}
"""Rows and columns of a tile, and rows up to which all is done at once, by device. On a CPU at 4096
samples 72 for sides of 256 to 512, 100 for 128; at 384 samples 1.2 at once, 2.4 in tiles. Not
measured on other devices."""

SUPCON_RANKS = {"cpu": 16, "other": 2}
"""Ranks up to which each one evaluates the tiles of all ranks' samples, though it needs only its
own. Counted, not measured: its own rows alone take twice the matrix products of all tiles, divided
by the number of ranks, and on a CPU many times that in exponentials."""

LOOKED_UP = 64
"""Rows, sorted by class, whose columns of the same classes are looked up together on a CPU. At 1024
samples in classes of 8, 7.4; with 16 rows 9.3, with 256 7.7."""

# --- mining ---

RANKED = 448**2
"""Similarities from which anchors are ranked in blocks: the 10 hardest of 448 candidates take 1.45
against 1.30 at once, of 634 2.50 against 2.54, of 256 0.81 against 0.66."""

RANKED_BLOCK = 2**20
"""Similarities of a block on a CPU: 4 MB, which the third-level cache holds. At 4096 samples 56, as
with a quarter of it; with four times 77. 64 times that on other devices, not measured."""

GROUP = 8
"""Columns of a group, of which only the maximum is ranked at first; at least 2. At 4096 samples 49;
with 4 columns 51, with 16 54, with 64 73."""

TOPK = 128
"""Columns up to which ``topk`` is the fastest, which leaves the order of ties open: at 128 columns
0.21 against 0.41 by groups, at 256 0.90 against 0.66."""

SORTED = 80
"""Columns up to which a sort is as fast as groups: at 64 and 80 columns both take 0.15 and 0.16, at
128 0.69 against 0.41."""

# --- HyCon ---

MOMENTS = 200
"""Samples from which class moments are taken instead of all similarities. Of two classes, at 100
samples 7.9 against 3.4, at 200 13 against 8, and at 400, where both classes have moments, 8 against
25."""

MOMENTS_CLASS = 128
"""Samples from which a class has moments; never below D, or they would outgrow the features. In
classes of 128, 1024 samples take 20 with moments and 240 without."""

MOMENTS_PART = 2048
"""Samples of a class at a time: at 8192 samples 56, as with 8192 at a time; with 512 69."""

MOMENTS_RUN = 64
"""Rows added up in their own precision, before float64 takes over: a float32 sum of 64 rows loses 6
bits at most, and a float64 copy of all rows would double their memory."""

SIMILARITIES = 2**22
"""Similarities at a time, where all of them are needed: 16 MB. At 512 samples 34, which are then
evaluated at once; with a quarter of it 55."""
