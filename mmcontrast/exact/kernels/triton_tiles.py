"""What runs on the GPU, in Triton: sums over the tiles of a matrix of logits, and its gradient.

A tile is made in registers, used and dropped. Logits are kept in octaves, s = log2(e) x y / t, and
their sums in units of 2^shift. The shift is 0 throughout where ``base`` is: the caller knows then
that no logit leaves [-60, 60], so that one exponential serves a tile's rows and its columns. Else
``base`` is the lowest float, and the shift is the largest logit so far of each row and each column.

Nothing is added up by atomics: each program writes what is its own, and the same input gives the
same bits. Only ``launch`` imports this module, where Triton is installed.
"""
# mypy: ignore-errors

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOG_2 = tl.constexpr(0.6931471805599453)
INFINITE = tl.constexpr(float("inf"))


# --- parts ---------------------------------------------------------------------------------------


@triton.jit
def load_rows(x, i, count, f, D: tl.constexpr, WIDTH: tl.constexpr):
    """Features f of the rows i of a (count, D) matrix, 0 beyond D; beyond ``count`` the last row.

    WIDTH is the number of features: where it divides D, none is beyond.
    """
    # int64, because an offset into a large matrix exceeds 2^31.
    at = x + tl.minimum(i, count - 1).to(tl.int64)[:, None] * D + f[None, :]
    return tl.load(at) if D % WIDTH == 0 else tl.load(at, mask=f[None, :] < D, other=0.0)


@triton.jit
def tile_dot(a, b, total, PRECISION: tl.constexpr):
    """The product of two tiles, added in float32."""
    if PRECISION == "upcast":  # Triton's interpreter has no product of two bfloat16
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@triton.jit
def dot_products(
    x,
    y,
    i,
    j,
    rows,
    columns,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The rows i of x times the rows j of y, DEPTH features at a time."""
    total = tl.zeros((i.shape[0], j.shape[0]), tl.float32)
    for k in range(0, D, DEPTH):
        f = k + tl.arange(0, DEPTH)
        a = load_rows(x, i, rows, f, D, DEPTH)
        b = load_rows(y, j, columns, f, D, DEPTH)
        total = tile_dot(a, tl.trans(b), total, PRECISION)
    return total


@triton.jit
def negatives(
    s,
    i,
    j,
    first_row,
    first_column,
    rows,
    columns,
    partner,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DIAGONAL: tl.constexpr,
    PARTNER: tl.constexpr,
):
    """Minus infinity beyond the matrix, and where a pair is none of the negatives.

    DIAGONAL leaves out the pairs (i, i). ``partner`` leaves out one column of each row where
    PARTNER is "row", one row of each column where it is "column".
    """
    if (first_row + ROWS > rows) | (first_column + COLUMNS > columns):
        s = tl.where((i < rows)[:, None] & (j < columns)[None, :], s, -INFINITE)
    if DIAGONAL:  # noqa: SIM102  # decided when the kernel is compiled; the inner one when it runs
        if (first_row < first_column + COLUMNS) & (first_column < first_row + ROWS):
            s = tl.where(i[:, None] != j[None, :], s, -INFINITE)
    if PARTNER == "row":
        other = tl.load(partner + i, mask=i < rows, other=-1)
        s = tl.where(other[:, None] != j[None, :], s, -INFINITE)
    if PARTNER == "column":
        other = tl.load(partner + j, mask=j < columns, other=-1)
        s = tl.where(other[None, :] != i[:, None], s, -INFINITE)
    return s


@triton.jit
def softplus(s):
    r"""log(1 + 2^s), to the last bits also where 2^s is small.

    With o = 2^-\|s\| <= 1 it is log 2 max(s, 0) + log(1 + o), and log(1 + o) = 2 artanh(z) at
    z = o / (2 + o) <= 1 / 3, whose series needs no logarithm and adds only what is positive.
    """
    odds = tl.exp2(-tl.abs(s))
    z = odds / (2.0 + odds)
    q = z * z
    series = 1.0 / 11 + q * (1.0 / 13)
    series = 1.0 / 7 + q * (1.0 / 9 + q * series)
    series = 1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * series))
    return tl.maximum(s, 0.0) * LOG_2 + 2.0 * z * series


@triton.jit
def sigmoid(s):
    """2^s / (1 + 2^s), without overflow."""
    odds = tl.exp2(-tl.abs(s))
    return tl.where(s > 0.0, 1.0, odds) / (1.0 + odds)


# --- kernels -------------------------------------------------------------------------------------


@triton.jit
def pair_kernel(
    x,
    y,
    partner,
    out,
    rows,
    columns,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    PARTNER: tl.constexpr,
):
    """out_i = x_i y_t, t the partner or i itself."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    t = i
    if PARTNER:
        t = tl.load(partner + i, mask=i < rows, other=0)
    total = tl.zeros((ROWS,), tl.float32)
    for k in range(0, D, DEPTH):
        f = k + tl.arange(0, DEPTH)
        a = load_rows(x, i, rows, f, D, DEPTH).to(tl.float32)
        b = load_rows(y, t, columns, f, D, DEPTH).to(tl.float32)
        total += tl.sum(a * b, 1)
    tl.store(out + i, total, mask=i < rows)


@triton.jit
def sums_kernel(
    x,
    y,
    partner,
    temperature,
    bias,
    base,
    row_sums,
    row_shifts,
    column_sums,
    column_shifts,
    rows,
    columns,
    tall,
    wide,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    BOTH: tl.constexpr,
    DIAGONAL: tl.constexpr,
    PARTNER: tl.constexpr,
    SIGMOID: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sums over the negatives of each row, and with BOTH of each column, of one rectangle.

    Program (p, q) has ``tall`` rows and ``wide`` columns. It writes line q of the (., rows) row
    sums and line p of the (., columns) column sums, which only it reads and writes: they hold what
    its earlier rows gave. With SIGMOID the sums are those of the softplus.
    """
    p, q = tl.program_id(0), tl.program_id(1)
    scale = LOG2_E / tl.load(temperature)
    lowest = tl.load(base)
    offset = 0.0
    if SIGMOID:
        offset = tl.load(bias) * LOG2_E
    # Move the pointers to this program's lines of partial sums.
    row_sums += q * rows
    row_shifts += q * rows
    column_sums += p * columns
    column_shifts += p * columns
    for first_row in range(p * tall, tl.minimum((p + 1) * tall, rows), ROWS):
        i = first_row + tl.arange(0, ROWS)
        # All features fit at once: the rows are loaded once for all of their tiles.
        if DEPTH >= D:
            f = tl.arange(0, DEPTH)
            a = load_rows(x, i, rows, f, D, DEPTH)
        total = tl.zeros((ROWS,), tl.float32)
        highest = tl.zeros((ROWS,), tl.float32) + lowest
        for first_column in range(q * wide, tl.minimum((q + 1) * wide, columns), COLUMNS):
            j = first_column + tl.arange(0, COLUMNS)
            if DEPTH >= D:
                b = load_rows(y, j, columns, f, D, DEPTH)
                s = tile_dot(a, tl.trans(b), tl.zeros((ROWS, COLUMNS), tl.float32), PRECISION)
            else:
                s = dot_products(x, y, i, j, rows, columns, D, DEPTH, PRECISION)
            s = negatives(
                s * scale + offset,
                i,
                j,
                first_row,
                first_column,
                rows,
                columns,
                partner,
                ROWS,
                COLUMNS,
                DIAGONAL,
                PARTNER,
            )
            if SIGMOID:
                total += tl.sum(softplus(s), 1)
            elif lowest == 0.0:
                # No shift: one exponential is summed along rows, in registers, and along columns,
                # in memory.
                odds = tl.exp2(s)
                total += tl.sum(odds, 1)
                if BOTH:
                    before = tl.load(column_sums + j, mask=j < columns, other=0.0)
                    tl.store(column_sums + j, before + tl.sum(odds, 0), mask=j < columns)
            else:
                # A running maximum for each row: the sum so far moves to the new maximum's unit.
                # The lowest float, not minus infinity, begins it, so that no difference is NaN.
                above = tl.maximum(highest, tl.max(s, 1))
                total *= tl.exp2(highest - above)
                total += tl.sum(tl.exp2(s - above[:, None]), 1)
                highest = above
                if BOTH:
                    # The same for columns, with sum and maximum in memory.
                    before = tl.load(column_sums + j, mask=j < columns, other=0.0)
                    shift = tl.load(column_shifts + j, mask=j < columns, other=0.0)
                    higher = tl.maximum(shift, tl.max(s, 0))
                    before *= tl.exp2(shift - higher)
                    before += tl.sum(tl.exp2(s - higher[None, :]), 0)
                    tl.store(column_sums + j, before, mask=j < columns)
                    tl.store(column_shifts + j, higher, mask=j < columns)
        tl.store(row_sums + i, total, mask=i < rows)
        tl.store(row_shifts + i, highest, mask=i < rows)
        tl.debug_barrier()  # the next rows' threads read the columns' sums that these have written


@triton.jit
def gradient_kernel(
    x,
    y,
    out,
    slopes,
    partner,
    temperature,
    bias,
    base,
    row_share,
    row_shift,
    column_share,
    column_shift,
    rows,
    columns,
    wide,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    BY_ROW: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    PARTNER: tl.constexpr,
    SIGMOID: tl.constexpr,
    SLOPES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out_i = sum over j of g_ij y_j, for the negatives (i, j).

    g is 2^(s - row_shift_i) row_share_i, the same by column, or their sum; with SIGMOID the slope
    of the softplus times row_share_i or column_share_j. Program (p, k, q) has ROWS rows, WIDTH
    features and ``wide`` columns, and writes to part q of the (., rows, D) output. Its logits take
    all features: where WIDTH < D they are made again for each k. Where DEPTH and WIDTH hold all of
    them, x is loaded once, and y once for both products.
    """
    p, k, q = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    scale = LOG2_E / tl.load(temperature)
    lowest = tl.load(base)
    offset = 0.0
    if SIGMOID:
        offset = tl.load(bias) * LOG2_E
    first_row = p * ROWS
    i = first_row + tl.arange(0, ROWS)
    f = k * WIDTH + tl.arange(0, WIDTH)
    # Each row's share over its sum of exponentials, or with SIGMOID its weight; 0 beyond the
    # matrix.
    if BY_ROW:
        u = tl.load(row_share + i, mask=i < rows, other=0.0)
        if not SIGMOID:
            above = tl.load(row_shift + i, mask=i < rows, other=0.0)
    if DEPTH >= D and WIDTH >= D:
        a = load_rows(x, i, rows, f, D, WIDTH)
    # No logit is above its shift but by the rounding of another order of summation, which at huge
    # logits is enough for an exponential to overflow.
    highest = tl.where(lowest == 0.0, INFINITE, 0.0)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    slope = tl.zeros((ROWS,), tl.float32)
    for first_column in range(q * wide, tl.minimum((q + 1) * wide, columns), COLUMNS):
        j = first_column + tl.arange(0, COLUMNS)
        if DEPTH >= D and WIDTH >= D:
            b = load_rows(y, j, columns, f, D, WIDTH)
            s = tile_dot(a, tl.trans(b), tl.zeros((ROWS, COLUMNS), tl.float32), PRECISION)
        else:
            s = dot_products(x, y, i, j, rows, columns, D, DEPTH, PRECISION)
            b = load_rows(y, j, columns, f, D, WIDTH)
        s = negatives(
            s * scale + offset,
            i,
            j,
            first_row,
            first_column,
            rows,
            columns,
            partner,
            ROWS,
            COLUMNS,
            DIAGONAL,
            PARTNER,
        )
        if BY_COLUMN:
            v = tl.load(column_share + j, mask=j < columns, other=0.0)
            if not SIGMOID:
                higher = tl.load(column_shift + j, mask=j < columns, other=0.0)
        if SIGMOID:
            # Masked logits are minus infinity, and their sigmoid 0.
            g = sigmoid(s)
            if BY_ROW:
                g *= u[:, None]
            else:
                g *= v[None, :]
        elif BY_ROW and BY_COLUMN:
            # The gradient by a logit as an entry of its row and of its column, by one exponential
            # or two.
            if lowest == 0.0:
                g = tl.exp2(s) * (u[:, None] + v[None, :])
            else:
                g = tl.exp2(tl.minimum(s - above[:, None], 0.0)) * u[:, None]
                g += tl.exp2(tl.minimum(s - higher[None, :], 0.0)) * v[None, :]
        elif BY_ROW:
            g = tl.exp2(tl.minimum(s - above[:, None], highest)) * u[:, None]
        else:
            g = tl.exp2(tl.minimum(s - higher[None, :], highest)) * v[None, :]
        if SLOPES:
            slope += tl.sum(g, 1)
        # (ROWS, COLUMNS) times (COLUMNS, WIDTH), with g rounded to the dtype of the rows.
        total = tile_dot(g.to(b.dtype), b, total, PRECISION)
    at = out + (q.to(tl.int64) * rows + i.to(tl.int64))[:, None] * D + f[None, :]
    tl.store(at, total, mask=(i < rows)[:, None] & (f < D)[None, :])
    if SLOPES:  # noqa: SIM102  # as in negatives: compiled away, or asked at run time
        if k == 0:
            tl.store(slopes + q * rows + i, slope, mask=i < rows)
