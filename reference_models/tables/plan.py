"""The plan of a reproduction: the rows of a table, and the settings that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reference_models import keys, registry
from reference_models.data.corpus import Corpus
from reference_models.running import folders
from reference_models.running.parts import Parts, build


@dataclass
class Row:
    """One row of the table: its changes, and the state of its runs.

    Attributes:
        name, overrides: as in the model's tables.
        folder: of its runs, inside the experiment's.
        config: of its run folders, the seed aside; None if the row cannot run.
        reason: why it cannot.
        same_as: an earlier row with the same config; the two share their runs.
        failures: seed -> why its training ended without a result.
    """

    name: str
    overrides: Mapping[str, Any]
    folder: str
    config: dict[str, Any] | None = None
    reason: str | None = None
    same_as: str | None = None
    failures: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """The settings that all rows share: the arguments of ``experiments.reproduce``."""

    model: str
    table: str
    corpus: Corpus
    seeds: tuple[int, ...]
    out: Path
    text_encoder: str | None
    settings: tuple[str, ...]
    modalities: tuple[str, ...] | None
    labels: str | None
    preset: str | None
    data_set: str | None
    synthetic: bool
    against: str | None = None

    def configure(self, settings: Sequence[str] = ()) -> tuple[Any, Any]:
        """The model's two configs, before a row changes them."""
        return keys.configure(registry.find(self.model), settings, preset=self.preset)

    def build(self, row: Row, seed: int) -> Parts:
        """The parts of a run of a row; a ValueError says why it cannot run."""
        changes = dict(row.overrides)
        chosen_by = f"the row {row.name}" if "modalities" in changes else "--modalities"
        modalities = changes.pop("modalities", self.modalities)
        configs = keys.override(*self.configure(self.settings), changes)
        reads_text = modalities is None or "text" in modalities
        return build(
            self.model,
            *configs,
            self.corpus,
            seed=seed,
            text_encoder=self.text_encoder if reads_text else None,
            modalities=modalities,
            chosen_by=chosen_by,
            labels=self.labels,
        )

    def finished(self, row: Row) -> list[Path]:
        """The folders of the finished runs."""
        places = (self.out / row.folder / f"seed-{seed}" for seed in self.seeds)
        return [place for place in places if folders.state(place) == "finished"]
