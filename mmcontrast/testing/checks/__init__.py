"""The laws by theme; importing this package fills ``CHECKS``, in the order of the reports."""

from mmcontrast.testing.checks import (
    choices,
    distance_numbers,
    engineering,
    gradients,
    invariances,
    labelled,
    labelled_miners,
    logits,
    metrics,
    miners,
    multimodal,
    options,
    precision,
    results,
    temperatures,
    triplet,
    values,
)
from mmcontrast.testing.registry import CHECKS

THEMES = (
    results,
    invariances,
    values,
    logits,
    gradients,
    temperatures,
    precision,
    labelled,
    triplet,
    multimodal,
    options,
    engineering,
    miners,
    choices,
    labelled_miners,
    metrics,
    distance_numbers,
)
_places = [theme.__name__ for theme in THEMES]
_ordered = sorted(CHECKS.items(), key=lambda item: _places.index(item[1].body.__module__))
CHECKS.clear()
CHECKS.update(_ordered)
