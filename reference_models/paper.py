"""What the command line has to know of a paper: the record that each paper's folder exports."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources.abc import Traversable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from reference_models.layers.inputs import MODALITIES
from reference_models.training_config import FINE_TUNING, TrainingConfig


@dataclass(frozen=True)
class Paper:
    """One model of the command line. A paper's folder exports a tuple ``PAPERS`` of these.

    Attributes:
        name: of the model on the command line.
        summary, citation: a line each.
        config: the settings, with the paper's values; a frozen dataclass with a field ``head``.
        build: ``build(config, sizes, text_encoder)`` makes the network; ``sizes`` are the features
            of each modality, text first.
        presets: by data set, the config and training fields that the paper sets there.
        tables: the paper's tables: table -> row -> the config and training fields that it changes;
            a row's key "modalities" chooses the modalities that it reads. Default: one table
            "headline" of one row, the settings as they are.
        published: the JSON file of the numbers that the paper prints; None: none are stored.
        contrast: rows of the table "contrast" that the paper prints in another of its tables:
            row -> (table, row).
        fewest: the smallest number of modalities that it runs on.
        reads: the modalities that it can read, in order; a file may have others.
        training: its training config.

    Raises:
        ValueError: a ``fewest`` that is not in 1 to the number of modalities that it reads.
    """

    name: str
    summary: str
    citation: str
    config: Any
    build: Callable[[Any, dict[str, int], PreTrainedModel | None], nn.Module]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    published: Traversable | None = None
    contrast: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    fewest: int = 2
    reads: tuple[str, ...] = MODALITIES
    training: TrainingConfig = FINE_TUNING

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= len(self.reads):
            raise ValueError(
                f"fewest of {self.name}: expected 1 to {len(self.reads)}, as many modalities as it"
                f" reads, got {self.fewest!r}"
            )
        if not self.tables:
            object.__setattr__(self, "tables", {"headline": {self.name: {}}})

    @cached_property
    def printed(self) -> dict[str, Any]:
        """The content of ``published``; of a paper without it, no setting and no tables.

        ``paper``, ``source``, ``setting`` (what the paper did, by topic) and ``tables``: table ->
        data set -> columns and rows. Accuracies and F1 are in percent, MAE and correlation as
        measured; null is not printed in the text that was read. ``measured_as`` says, by data set,
        which of our metrics a column is where the names differ.
        """
        if self.published is None:
            return {"setting": {}, "measured_as": {}, "tables": {}}
        return json.loads(self.published.read_text(encoding="utf-8"))
