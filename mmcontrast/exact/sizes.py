"""Every size at which the evaluation changes, with the measurement that set it.

Read at each call as ``sizes.NAME``, so that a user on another machine, or a test, can set one.
Times are milliseconds for forward and backward of rows with 64 features (HyCon: 50) in float32 on
one core, as ``python -m tests.benchmarks.thresholds`` prints them.
"""

# --- InfoNCE and the sigmoid loss ---

TILE = 512
"""Rows and columns of a tile of logits: 1 MB, which the second-level cache holds."""

WIDE = (2 * TILE, TILE // 2)
"""Rows and columns of a tile of the same size with faster products. At 4096 samples 118; with (512,
512) 121, with (1024, 1024) 130, with (256, 256) 133."""

BLOCK = 2**20
"""Logits of a block of whole rows: 4 MB, which the third-level cache holds. At 4096 samples 99;
with a quarter of it 103, with four times 100."""

SPLIT = 2**15
"""Logits from which a matrix is made in parts, for the memory: up to here it takes 128 KB. Under a
mask, parts take no longer: at 256 samples 1.8 against 1.7, at 512 4.2 against 4.4."""

MASKED = 2**19
"""Logits of a block under masks of any positives, of which four copies are held. At 4096 samples
128; with a quarter of it 141, with four times 168. At 1024 samples 12.1, 12.8 and 17.9."""

MASK_PIECE = 2**16
"""Entries of a mask that are made numbers at a time: 256 KB. Of 2**20 0.39, at once 0.40."""

AT_ONCE = 2**16
"""Logits up to which a matrix for each direction stays in memory until the backward pass. At 256
samples 0.87 against 0.85 for one matrix; at 128, 0.46 against 0.52; at 362, 1.4 against 1.2."""

SIGMOID_TILES = TILE**2
"""Logits from which the sigmoid loss is evaluated in tiles: at 512 samples 2.4 against 2.5 at once,
at 256 1.0 against 0.84, at 724 4.1 against 4.5."""

OWN = 2**18
"""Numbers in the own negatives of InfoNCE that are mapped at a time: 1 MB. Of 1024 anchors with 32
negatives of 384 features each 149, in 72 MB; with a quarter of it 212 in 65, with four times 134 in
109."""

RING = 2**26
"""Numbers in the candidates of all ranks (256 MB) from which they are passed around the ranks
instead of gathered. A limit on memory, not a measurement of time."""

KERNELS = 2**22
"""Logits from which the Triton kernels are taken on a GPU. Not measured: a guess that below it
launching takes longer than computing."""

# --- SupCon ---

SUPCON_SIDE = {"cpu": 384, "other": 4096}
"""Rows and columns of a tile, and rows up to which all is done at once, by device. On a CPU at 4096
samples 68 to 73 for sides of 256 to 512, 93 for 128; at 384 samples 1.2 at once, 2.2 in tiles. At
512 samples, a side of 512 would take 2.0 where this takes 3.2. Not measured on other devices."""

SUPCON_RANKS = {"cpu": 16, "other": 2}
"""Ranks up to which each one evaluates the tiles of all ranks' samples, though it needs only its
own. Counted, not measured: its own rows alone take twice the matrix products of all tiles, divided
by the number of ranks, and on a CPU many times that in exponentials."""

LOOKED_UP = 64
"""Sorted rows for which the columns of the same classes are looked up together on a CPU. At 1024
samples in classes of 8, 7.1; with 16 rows 7.8, with 256 7.2."""

# --- Rank-N-Contrast ---

ORDERED = 2**17
"""Logits of a block of anchors, of which some 10 to 20 copies are held, most of them float64. At
2048 samples 282; with an eighth of it 421, with twice 266, and twice the memory."""

# --- mining ---

RANKED = 448**2
"""Similarities from which anchors are ranked in blocks, for the memory: the 10 hardest of 448
candidates take 1.4 against 1.2 at once, of 634 2.4 against 2.1."""

RANKED_BLOCK = 2**20
"""Similarities of a block on a CPU: 4 MB, which the third-level cache holds. At 4096 samples 45;
with a quarter of it 53, with four times 72. 64 times that on other devices, not measured."""

GROUP = 8
"""Columns of a group, of which only the maximum is ranked at first; at least 2. At 4096 samples 42;
with 4 columns 43, with 16 47, with 64 68."""

TOPK = 128
"""Columns up to which ``topk`` is the fastest, which leaves the order of ties open: at 128 columns
0.21 against 0.41 by groups, at 256 0.89 against 0.65."""

SORTED = 80
"""Columns up to which a sort is as fast as groups: at 64 and 80 columns both take 0.15 and 0.16, at
128 0.68 against 0.41."""

CORPUS = 2**17
"""Candidates from which they are read, mapped and ranked in blocks as well, for the memory."""

CORPUS_BLOCK = 2**20
"""Numbers of a block of candidates: 4 MB."""

EXACT = 2**20
"""Numbers of pairs of rows that are measured at a time, each pair by itself: 8 MB in float64."""

# --- HyCon ---

MOMENTS = 200
"""Samples from which class moments are taken instead of all similarities. Of two classes, at 100
samples 6.0 against 3.1, at 200 10 against 6, and at 400, where both classes have moments, 7 against
19."""

MOMENTS_CLASS = 128
"""Samples from which a class has moments; never below D, or they would outgrow the features. In
classes of 128, 1024 samples take 19 with moments and 125 without."""

MOMENTS_PART = 2048
"""Samples of a class at a time: at 32768 samples 219; with 512 at a time 306, with 8192 227."""

MOMENTS_RUN = 64
"""Rows added up in their own precision, before float64 takes over: a float32 sum of 64 rows loses 6
bits at most, and a float64 copy of all rows would double their memory."""

SIMILARITIES = 2**22
"""Similarities at a time, where all of them are needed: 16 MB. At 512 samples 32, all at once, and
50 with a quarter of it; at 1024 samples 222, and 183 with a quarter, 265 with four times."""
