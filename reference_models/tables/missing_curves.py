"""Metrics against the rate of what is missing: curves with their band, areas, paired areas.

The area under a curve is by trapezoids over the rates, as the literature's AUILC (in the code of
EMT-DLFR: AUC). It is divided by the range of the rates here, which makes it the mean of the metric
over them, from 0 to 1 or not. For whole modalities that are missing for all samples there is no
rate; the mean over the incomplete subsets takes its place, as in CM-ARR (arXiv:2407.09029).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from reference_models.running.metrics import flat_metrics, task_metrics
from reference_models.running.robustness import Condition, MissingResults, Outputs
from reference_models.running.runs import prediction_columns
from reference_models.tables.finished import columns_by_output
from reference_models.tables.paired import Difference, differences_by_metric, resampled
from reference_models.tables.statistics import Summary, in_percent
from reference_models.tables.weighted_metrics import weighted_metrics

Floats = NDArray[np.float64]
ABOUT_AREA = (
    "Area: the metric's mean over the rates, by trapezoids. A correlation that is not defined, as"
    " of equal predictions, counts as 0 in it."
)
ABOUT_MEAN = "Mean: over the subsets in which something is missing."


@dataclass(frozen=True)
class Curves:
    """What is measured of one row of runs.

    Attributes:
        points: metric -> name of a place on the curve (a rate, or a subset) -> its values over the
            seeds and the seeds of the masks.
        areas: metric -> the area of each seed and each seed of the masks.
    """

    points: dict[str, dict[str, Summary]]
    areas: dict[str, Summary]


def place_of(condition: Condition) -> str:
    """Where a condition lies on the curve: its rate, or its subset."""
    return Condition(condition.rate, kept=condition.kept).name


def measured(results: Sequence[MissingResults]) -> Curves:
    """The curves of runs that differ in the seed alone."""
    values = [_metrics_of_each(each) for each in results]
    names = list(dict.fromkeys(name for each in values for of in each.values() for name in of))
    places = list(dict.fromkeys(place_of(c) for c in results[0].conditions))
    points, areas = {}, {}
    for name in names:
        at: dict[str, list[float]] = {place: [] for place in places}
        found: list[float] = []
        for result, each in zip(results, values, strict=True):
            for condition, of in each.items():
                at[place_of(condition)].append(of[name])
            of_one = {condition: np.array([of[name]]) for condition, of in each.items()}
            seeds = result.mask_seeds or (0,)
            found += [_area(name, result, of_one, seed).item() for seed in seeds]
        points[name] = {place: _summary(list_) for place, list_ in at.items()}
        areas[name] = _summary(found)
    return Curves(points, areas)


def _metrics_of_each(result: MissingResults) -> dict[Condition, dict[str, float]]:
    """The metrics under each condition, shares in percent, NaN where one is not defined."""
    found = {}
    for condition, outputs in result.predictions.items():
        flat = _flat(result, outputs)
        found[condition] = {
            name: math.nan if value is None else value * (100 if in_percent(name) else 1)
            for name, value in flat.items()
        }
    return found


def _flat(result: MissingResults, outputs: Outputs) -> dict[str, float]:
    with warnings.catch_warnings():  # what is not defined is a gap in the curve
        warnings.simplefilter("ignore", RuntimeWarning)
        found = task_metrics(result.task, outputs, result.labels, classes=result.classes)
    return flat_metrics(found)


def _summary(values: Sequence[float]) -> Summary:
    defined = [value for value in values if math.isfinite(value)]
    if not defined:
        return Summary(math.nan, math.nan, ())
    return Summary(float(np.mean(defined)), float(np.std(defined)), tuple(defined))


def _area(
    name: str, result: MissingResults, values: Mapping[Condition, Floats], mask_seed: int
) -> Floats:
    """The area of a metric (R,) for one seed of the masks; of subsets, the mean."""
    if "corr" in name:
        values = {condition: np.nan_to_num(x) for condition, x in values.items()}
    if not result.mask_seeds:
        most = max(len(c.kept or ()) for c in values)
        parts = [x for c, x in values.items() if len(c.kept or ()) < most]
        if not parts:  # a network of one modality has no incomplete subset
            return np.full_like(next(iter(values.values())), np.nan)
        return np.asarray(np.mean(parts, axis=0))
    own = [c for c in result.conditions if c.mask_seed in (None, mask_seed)]
    rates = [c.rate for c in own]
    total = trapezoid(np.stack([values[c] for c in own]), rates, axis=0)
    return np.asarray(total / (rates[-1] - rates[0]))


def paired_areas(
    row: Mapping[int, MissingResults], against: Mapping[int, MissingResults]
) -> dict[str, Difference]:
    """The difference of every metric's area between two rows, over the seeds that both have.

    Paired by seed, by sample and by mask: both rows have seen the same masks, over whose seeds the
    areas are averaged first. Empty without a common seed, or with other conditions.
    """
    seeds = sorted(row.keys() & against.keys())
    if not seeds or any(row[s].predictions.keys() != against[s].predictions.keys() for s in seeds):
        return {}
    samples = len(row[seeds[0]].labels)
    counts = resampled(samples)
    return differences_by_metric(
        *([_areas(runs[s], counts) for s in seeds] for runs in (row, against)), samples=samples
    )


def _areas(result: MissingResults, counts: Floats) -> dict[str, Floats]:
    """metric -> (1 + R,): the area as it is, then on each resampled split."""
    names = _flat(result, next(iter(result.predictions.values())))
    values: dict[str, dict[Condition, Floats]] = {}
    for condition, outputs in result.predictions.items():
        columns = prediction_columns(result.task, outputs, result.labels)
        said, true = (
            {
                output: np.asarray(columns[column], dtype=np.float64)
                for output, column in columns_by_output(columns, kind).items()
            }
            for kind in ("prediction", "label")
        )
        for name, x in weighted_metrics(names, said, true, counts).items():
            if name in names:
                values.setdefault(name, {})[condition] = x
    seeds = result.mask_seeds or (0,)
    return {
        name: np.mean([_area(name, result, of, s) for s in seeds], axis=0)
        for name, of in values.items()
    }
