"""Two sets of runs, paired by seed and by test sample: is the difference more than chance?

Two runs of one seed on one test split have most of their luck in common: which samples are hard,
and how the weights began. So differences are taken seed by seed and sample by sample, and only
then is it asked how much they vary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as students_t

from reference_models.running.metrics import flat_metrics
from reference_models.tables.finished import Run
from reference_models.tables.weighted_metrics import weighted_metrics

LEVEL = 0.95
RESAMPLED = 1000
HELPS, HURTS, CANNOT_TELL = "helps", "hurts", "cannot tell"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One metric of a row minus that of another: shares in percent, the others as they are."""

    value: float
    """The mean over the seeds."""
    low: float
    high: float
    """The ends of the 95 % interval."""
    same_sign: int
    """How many seeds have a difference of the same sign as the mean; 0 if the mean is 0."""
    seeds: int
    word: str
    """"helps" or "hurts" where the interval of two seeds or more lies on one side of 0, else
    "cannot tell"."""


def paired_differences(row: Mapping[int, Run], against: Mapping[int, Run]) -> dict[str, Difference]:
    """The difference of every metric between two rows, over the seeds that both have.

    Args:
        row, against: the finished runs by seed.

    Returns:
        By the metric's flat name; empty without a common seed. A metric that is not defined in some
        run has no entry.

    Raises:
        ValueError: runs with other test samples or labels, or of another task.
    """
    seeds = sorted(row.keys() & against.keys())
    if not seeds:
        return {}
    first = row[seeds[0]]
    for run in (*(row[s] for s in seeds), *(against[s] for s in seeds)):
        _check_paired(first, run)
    counts = resampled(len(first.ids))
    return differences_by_metric(
        *([_metrics(runs[s], counts) for s in seeds] for runs in (row, against)),
        samples=len(first.ids),
    )


def differences_by_metric(
    ours: Sequence[Mapping[str, Floats]], theirs: Sequence[Mapping[str, Floats]], *, samples: int
) -> dict[str, Difference]:
    """The difference of every metric that all runs have, and that is defined in each.

    Args:
        ours, theirs: of each of S seeds: metric -> (1 + R,), as it is and on R resampled splits.
        samples: how many a split has. Of a single one all splits are alike, which tells nothing.
    """
    found = {}
    for name in ours[0]:
        if all(name in metrics for metrics in (*ours, *theirs)):
            each = np.stack([o[name] - t[name] for o, t in zip(ours, theirs, strict=True)])
            if np.isfinite(each[:, 0]).all():
                drawn = each[:, 1:] if samples > 1 else each[:, :0]
                found[name] = difference(each[:, 0], drawn, lower_is_better=_is_error(name))
    return found


def difference(each: Floats, drawn: Floats, *, lower_is_better: bool) -> Difference:
    """The mean difference over seeds, with its interval.

    Args:
        each: (S,) the difference of each seed.
        drawn: (S, R) the same on R resampled test splits; splits on which a difference is not
            defined are left out.

    The mean varies for two reasons. What all seeds share, the choice of the test samples, is the
    covariance of the seeds' differences over the resampled splits. What a seed has of its own is
    the spread between seeds, which few of them tell poorly, so that it counts with Student's t. The
    half widths of the two are added in squares, which covers the true difference at least as often
    as stated. (A bootstrap over seeds, too, would draw from the same three values again and again,
    and come out too narrow or, where seeds differ by the samples alone, too wide.) The interval is
    never narrower than the one over samples alone. That is all that there is for one seed, of which
    nothing can be told: another seed may differ more than other samples. Nor can it without two
    splits on which the difference is defined.
    """
    seeds = len(each)
    drawn = drawn[:, np.isfinite(drawn).all(0)]
    known = drawn.shape[1] > 1
    covariance = np.atleast_2d(np.cov(drawn)) if known else np.zeros((seeds, seeds))
    normal = float(norm.ppf((1 + LEVEL) / 2))
    square = normal**2 * float(covariance.mean())  # of the half width
    if seeds > 1:
        shared = float(covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
        own = float(each.var(ddof=1)) / seeds
        student = float(students_t.ppf((1 + LEVEL) / 2, seeds - 1))
        square = max(square, normal**2 * max(shared, 0.0) + student**2 * own)
    width = math.sqrt(max(square, 0.0))
    value = float(each.mean())
    low, high = value - width, value + width
    better = value < 0 if lower_is_better else value > 0
    told = known and seeds > 1 and (low > 0 or high < 0)
    word = (HELPS if better else HURTS) if told else CANNOT_TELL
    same = int((np.sign(each) * np.sign(value) > 0).sum())
    return Difference(value, low, high, same, seeds, word)


def resampled(samples: int) -> Floats:
    """(1 + R, N) counts of the samples: once each, then R draws, the same on every call."""
    draws = np.random.default_rng(0).multinomial(samples, np.full(samples, 1 / samples), RESAMPLED)
    return np.concatenate([np.ones((1, samples)), draws])


def runs_by_seed(runs: Sequence[Run]) -> dict[int, Run]:
    """Finished runs of one row by the seed of their config.

    Raises:
        ValueError: two of one seed, of which it is not known which one to pair.
    """
    found: dict[int, Run] = {}
    for run in runs:
        other = found.setdefault(run.config["seed"], run)
        if other is not run:
            raise ValueError(
                f"{run.folder}: expected one run of seed {run.config['seed']} with its settings,"
                f" got {other.folder} as well; name only one of them"
            )
    return found


def _metrics(run: Run, counts: Floats) -> dict[str, Floats]:
    names = flat_metrics(run.metrics["test"])
    found = weighted_metrics(names, run.predictions, run.labels, counts)
    return {name: values for name, values in found.items() if name in names}


def _is_error(metric: str) -> bool:
    return metric.endswith("mae")


def _check_paired(first: Run, run: Run) -> None:
    same = run.ids == first.ids and run.labels.keys() == first.labels.keys()
    if not same or any((run.labels[k] != first.labels[k]).any() for k in first.labels):
        raise ValueError(
            f"expected runs on the same test samples, got {len(run.ids)} with the labels of"
            f" {run.config['data'].get('path')}, and {len(first.ids)} with those of"
            f" {first.config['data'].get('path')}"
        )
    own, others = (set(flat_metrics(each.metrics["test"])) for each in (run, first))
    if own != others:
        raise ValueError(
            f"expected runs with the same metrics, got {', '.join(sorted(own ^ others))} in one of"
            f" {first.folder} and {run.folder} alone"
        )
