"""Single columns of data files: lists and arrays of any origin to arrays of one form.

Each function takes ``where``, the beginning of its error messages: file, split and column.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reference_models.data.pickles import DataError
from reference_models.excerpt import excerpt


def numbers(values: Any, where: str, *, dtype: type = np.float32) -> np.ndarray:
    """Lists or arrays as a new numeric array, or a DataError."""
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.tolist()
    try:
        # Beyond float32: infinite, which later checks find.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.array(values, dtype=dtype, order="C")
    except (TypeError, ValueError, OverflowError, MemoryError, RecursionError):
        raise DataError(
            f"{where}: expected numbers of one shape for every sample, got "
            f"{_kinds(values)}; pad sequences to one length with zeros"
        ) from None


def _kinds(values: Any) -> str:
    if not isinstance(values, list | tuple):
        return type(values).__name__
    shapes = sorted({str(getattr(v, "shape", excerpt(v))) for v in values[:1000]})
    return f"{len(values)} samples of shapes {', '.join(shapes[:3])}"


def check_count(got: int, count: int, where: str, *, by: str = "regression_labels") -> None:
    """Refuse a column of another length than the column ``by``."""
    if got != count:
        raise DataError(
            f"{where}: expected {count} samples as in {by!r}, got {got}; "
            "make all columns of a split equally long"
        )


def scores(
    values: Any, where: str, label_range: tuple[float, float], *, fix: str = ""
) -> np.ndarray:
    """(N,) float32 scores within the range; ``fix`` is the end of the error message otherwise."""
    labels = numbers(values, where)
    if labels.ndim == 0 or labels.size != len(labels):
        raise DataError(
            f"{where}: expected shape (N,), got {labels.shape}; give one score a sample"
        )
    if not len(labels):
        raise DataError(f"{where}: expected at least one sample, got none; fill the split")
    labels = labels.reshape(-1)
    low, high = label_range
    slack = 1e-4  # for scores that were stored in half or single precision
    bad = np.flatnonzero(~((labels >= low - slack) & (labels <= high + slack)))
    if len(bad):
        raise DataError(
            f"{where}: expected scores in [{low:g}, {high:g}], got {labels[bad[0]]:g} in row "
            f"{bad[0]} ({len(bad)} such rows); mend or drop them{fix}"
        )
    return labels


def tokens(values: Any, count: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (N, L) int64 and their mask, from text_bert in either order of axes."""
    table = numbers(values, where, dtype=np.float64)
    check_count(len(table) if table.ndim else 0, count, where)
    if table.ndim == 3 and table.shape[1] != 3 and table.shape[2] == 3:
        table = table.transpose(0, 2, 1)
    if table.ndim != 3 or table.shape[1] != 3 or table.shape[2] == 0:
        raise DataError(
            f"{where}: expected shape (N, 3, L) or (N, L, 3), got {table.shape}; "
            "stack ids, attention mask and token types"
        )
    ids, mask = table[:, 0], table[:, 1]
    whole = (ids == np.round(ids)).all() and ((ids >= 0) & (ids < 2**31)).all()
    if not whole or not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"{where}: expected token ids from 0 to 2^31 - 1 and a mask of 0 and 1, got other "
            "numbers; stack ids, attention mask and token types in this order"
        )
    # The attention mask marks real tokens, as nonzero values mark real frames.
    mask = mask.astype(bool)
    moved, real = _moved(ids[..., None], *frame_extent(mask))
    return moved[..., 0].astype(np.int64), real


def frames(
    values: Any, count: int, where: str, nan: str, *, by: str = "regression_labels"
) -> np.ndarray:
    """(N, T, D) float32, finite: ``nan`` "zero" puts 0 for NaN and infinities, "raise" refuses."""
    array = numbers(values, where)
    check_count(len(array) if array.ndim else 0, count, where, by=by)
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            f"{where}: expected shape (N, T, D), got {array.shape}; give features of a whole "
            "utterance a time axis of one step: x[:, None, :]"
        )
    return finite(array, where, nan)


def finite(array: np.ndarray, where: str, nan: str) -> np.ndarray:
    """``array`` (N, T, D), changed in place, with 0 for what is not finite, or a DataError."""
    strange = ~np.isfinite(array)
    if strange.any():
        if nan == "raise":
            raise DataError(
                f"{where}: expected finite numbers, got {strange.sum()} NaN or infinite in "
                f"{strange.any(axis=(1, 2)).sum()} samples; mend them, or pass nan='zero'"
            )
        array[strange] = 0
    return array


def lengths(columns: dict[str, Any], modality: str, count: int, where: str) -> np.ndarray | None:
    """The column ``<modality>_lengths`` as (N,) int64; None where there is none."""
    name = f"{modality}_lengths"
    if name not in columns:
        return None
    where = f"{where}, column {name!r}"
    stated = numbers(columns[name], where, dtype=np.float64).reshape(-1)
    check_count(len(stated), count, where)
    bad = ~((stated >= 0) & (stated < 2**31))
    if bad.any():
        raise DataError(
            f"{where}: expected lengths from 0 up to 2^31, got {stated[bad][0]:g}; mend them"
        )
    return stated.astype(np.int64)


def frame_extent(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First real frame and one past the last, of each row of (N, T) bool; 0 and 0 without any."""
    first = frames.argmax(axis=1)
    stop = frames.shape[1] - frames[:, ::-1].argmax(axis=1)
    return first, np.where(frames.any(axis=1), stop, 0)


def to_front(
    frames: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Real frames moved to the front, and their mask.

    A length is used if the frames outside it are zero: those at the end, or else at the front; one
    beyond the last step (the sequence was cut) means all steps. Otherwise it is wrong (in some
    files it counts up to the first zero frame), and the nonzero frames decide.
    """
    start, stop = frame_extent((frames != 0).any(axis=2))
    if lengths is not None:
        total = frames.shape[1]
        real = stop > 0
        padded_after = real & (stop <= lengths)
        padded_before = real & (start >= total - lengths)
        start = np.where(padded_after, 0, np.where(padded_before, total - lengths, start))
        stop = np.where(padded_after, lengths, np.where(padded_before, total, stop))
    return _moved(frames, start, stop)


def _moved(
    frames: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames start to stop of each row moved to its front, zeros after them, and their mask."""
    total = frames.shape[1]
    mask = np.arange(total) < (stop - start)[:, None]
    for row in np.flatnonzero(start):
        length = stop[row] - start[row]
        frames[row, :length] = frames[row, start[row] : stop[row]]
    frames[~mask] = 0
    return frames, mask


def padded(sequences: Sequence[np.ndarray], where: str, nan: str) -> tuple[np.ndarray, np.ndarray]:
    """N sequences (T_i, D) as (N, T, D) float32 with zeros after them, and their mask.

    T is at least 1. A sequence of nothing but zeros has no real frame.
    """
    widths = sorted({np.shape(x)[1:] for x in sequences if len(x)})
    if len(widths) != 1 or len(widths[0]) != 1:
        raise DataError(
            f"{where}: expected frames (D,) with one D for every sample, got {widths[:3]}; mend"
            " them"
        )
    total = max(1, *map(len, sequences))
    size = len(sequences) * total * widths[0][0]
    if size > 1000 * sum(map(np.size, sequences)) + 10**7:
        raise DataError(
            f"{where}: expected frames in most samples, got so few that padding makes {size} "
            "numbers of them; drop the column, or the empty samples"
        )
    out = np.zeros((len(sequences), total, *widths[0]), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        if len(sequence):
            out[row, : len(sequence)] = sequence
    finite(out, where, nan)
    lengths = np.array([len(sequence) for sequence in sequences])
    here = out.any(axis=(1, 2))
    return out, (np.arange(total) < lengths[:, None]) & here[:, None]


def standardize_rows(frames: np.ndarray, mask: np.ndarray) -> None:
    """In place: every feature of a sample at mean 0 and deviation 1 over its real frames.

    A feature that is constant in the sample becomes 0.
    """
    for row in np.flatnonzero(mask.any(axis=1)):
        real = frames[row, mask[row]].astype(np.float64)
        # Constants are found by their values: rounding of the mean makes their deviation nonzero.
        varies = (real != real[0]).any(axis=0)
        deviation = np.where(varies, real.std(axis=0), 1)
        frames[row, mask[row]] = (real - real.mean(axis=0)) * varies / deviation
