"""The laws by theme; importing this package fills the catalogue, in the order of the report."""

from mmcontrast.testing.checks import (
    engineering,
    gradients,
    invariances,
    labelled,
    multimodal,
    options,
    precision,
    results,
    temperature,
    triplet,
    values,
)
from mmcontrast.testing.registry import CHECKS

THEMES = (
    results,
    invariances,
    values,
    gradients,
    temperature,
    precision,
    labelled,
    triplet,
    multimodal,
    options,
    engineering,
)
_places = [theme.__name__ for theme in THEMES]
_ordered = sorted(CHECKS.items(), key=lambda item: _places.index(item[1].body.__module__))
CHECKS.clear()
CHECKS.update(_ordered)
