"""A finished run where something is missing: its predictions under every mask."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.data import missing
from reference_models.data.corpus import Corpus, file_sha256
from reference_models.data.missing import FIXED, MissingDataset
from reference_models.layers.text_encoder import remembering
from reference_models.running import records
from reference_models.running.devices import device
from reference_models.running.folders import one_at_a_time
from reference_models.running.mask_files import stored_draws
from reference_models.running.masking import blanks_of
from reference_models.running.restoring import load
from reference_models.running.sealed import read_sealed, write_sealed
from reference_models.running.training import predict

FOLDER = "missing"
MASK_SEEDS = 3
Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Condition:
    """What is missing in one evaluation.

    Attributes:
        rate: the share that is missing; None with ``kept``.
        mask_seed: of the masks; None where all seeds give the same mask.
        kept: the only modalities that are there; None with ``rate``.
    """

    rate: float | None = None
    mask_seed: int | None = None
    kept: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """ "text + audio", or "0.3, masks 2"."""
        if self.kept is not None:
            return " + ".join(self.kept)
        return f"{self.rate:.4g}" + ("" if self.mask_seed is None else f", masks {self.mask_seed}")


@dataclass(frozen=True, eq=False)
class MissingResults:
    """A run's predictions on one split under every condition.

    Attributes:
        mode, split: what is missing, and where.
        mask_seeds: of the masks.
        seed: of the run.
        task: of the data.
        conditions: the keys of ``predictions``, in order.
        predictions: of each condition, as ``predict`` returns them.
        labels: of the split.
        masks: the SHA-256 of the draws of each seed.
        classes: of rounded scores, as ``Corpus.classes``.
    """

    mode: str
    split: str
    mask_seeds: tuple[int, ...]
    seed: int
    task: str
    conditions: tuple[Condition, ...]
    predictions: dict[Condition, Outputs]
    labels: NDArray[Any]
    masks: dict[str, str]
    classes: tuple[int, ...] = (7, 5)


def conditions(
    mode: str, modalities: Sequence[str], read: Sequence[str], mask_seeds: Sequence[int]
) -> tuple[Condition, ...]:
    """All conditions of a mode, for a file with ``modalities`` and a network that reads ``read``.

    At the rate 0, and where everything is missing, all seeds of the masks give the same mask.
    """
    if mode == FIXED:
        return tuple(Condition(kept=part) for part in missing.subsets(read))
    found = []
    for rate in missing.rates(mode, modalities):
        found += [Condition(rate, seed) for seed in ((None,) if rate in (0, 1) else mask_seeds)]
    return tuple(found)


def evaluate_missing(
    folder: Path,
    mode: str,
    corpus: Corpus,
    *,
    split: str = "test",
    mask_seeds: int = MASK_SEEDS,
    masks: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> MissingResults:
    """Predict with a finished run's own weights under every condition of a mode.

    The predictions are kept in the run folder, ``missing/<mode>-<split>-....safetensors``: the same
    call reads them, as long as run, data and masks are the same.

    Args:
        folder: the run.
        mode: of :data:`reference_models.data.missing.MODES`.
        corpus, split: the data.
        mask_seeds: how many seeds of the masks: 1, 2, ...
        masks: folder of the stored masks; None: ``missing/masks`` in the run folder.
        say: called with a line before anything is predicted.

    Raises:
        ValueError: an unknown mode, no finished run, masks or predictions that are damaged, or a
            file with a single modality for random modalities.
    """
    missing.check_mode(mode, corpus.modalities)
    config = records.run_config(folder)
    read = tuple(m for m in corpus.modalities if m in config["modalities"])
    seeds = () if mode == FIXED else tuple(range(1, mask_seeds + 1))
    found = conditions(mode, corpus.modalities, read, seeds)
    place = masks or folder / FOLDER / "masks"
    drawn = {seed: stored_draws(place, mode, corpus, split, seed) for seed in seeds}
    digests = {str(seed): digest for seed, (_, digest) in drawn.items()}
    sums = records.run_metrics(folder).get(records.CHECKSUMS, {})
    about = {
        "data": corpus.sha256,
        "weights": sums.get("model.safetensors") or file_sha256(folder / "model.safetensors"),
        "masks": digests,
        "conditions": [condition.name for condition in found],
    }
    path = folder / FOLDER / f"{mode}-{split}-{corpus.sha256[:12]}.safetensors"
    with one_at_a_time(folder / FOLDER):
        outputs, found_about, _ = read_sealed(path) if path.exists() else ({}, "", "")
        if found_about != json.dumps(about) or not _are_of(found, corpus, split, outputs):
            say(f"{folder}: {len(found)} evaluations of {mode}, {split}")
            draws = {seed: values for seed, (values, _) in drawn.items()}
            outputs = _predict_all(folder, mode, corpus, split, found, draws)
            write_sealed(path, outputs, json.dumps(about))
    return MissingResults(
        mode,
        split,
        seeds,
        config["seed"],
        corpus.task,
        found,
        {condition: outputs[condition.name] for condition in found},
        corpus.splits[split].labels,
        digests,
        corpus.classes,
    )


def _are_of(
    found: Sequence[Condition], corpus: Corpus, split: str, outputs: Mapping[str, Outputs]
) -> bool:
    """Whether there are predictions under every condition, one for each sample of the split."""
    names, size = {condition.name for condition in found}, len(corpus.splits[split])
    return outputs.keys() == names and all(x.shape[:1] == (size,) for x in outputs.values())


def _predict_all(
    folder: Path,
    mode: str,
    corpus: Corpus,
    split: str,
    found: Sequence[Condition],
    draws: Mapping[int, Mapping[str, missing.Floats]],
) -> dict[str, Outputs]:
    parts = load(folder)
    parts.model.to(device())
    full, size = parts.dataset(corpus, split), parts.training.batch_size
    blanks = blanks_of(parts, mode)

    def without(sample: dict[str, Any], condition: Condition) -> dict[str, Any]:
        if condition.kept is not None:
            return missing.only(sample, condition.kept)
        seed = condition.mask_seed or next(iter(draws))  # at rate 0 and 1 any seed will do
        row = {name: values[sample["index"]] for name, values in draws[seed].items()}
        return missing.lacking(sample, mode, condition.rate, row, blanks)

    def predicted(condition: Condition) -> Outputs:
        part = MissingDataset(full, lambda sample: without(sample, condition))
        return predict(parts.model, part, batch_size=size)[0]

    # To the last bit what `evaluate` predicts.
    whole = [c for c in found if c.rate == 0 or set(full.modalities) <= set(c.kept or ())]
    outputs = {c.name: predicted(c) for c in whole}
    # Of whole modalities a text is missing or as it was: it need not be read again.
    with remembering() if mode in missing.WHOLE else nullcontext():
        outputs |= {c.name: predicted(c) for c in found if c not in whole}
    return outputs
