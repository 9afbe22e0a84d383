"""Training batches of which something is missing, drawn anew in every step."""

from typing import Any

import numpy as np

from reference_models.data.batch import collate
from reference_models.data.missing import BlankTokens, draw_one, lacking


def samples_of(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples that :func:`collate` made the fields of a batch of."""
    lengths = {m: mask.sum(1).tolist() for m, mask in fields["masks"].items()}
    samples = []
    for row, index in enumerate(fields["index"].tolist()):
        features = {m: x[row, : lengths[m][row]] for m, x in fields["features"].items()}
        sample = {"features": features, "label": fields["labels"][row], "index": index}
        if "unimodal_labels" in fields:
            sample["unimodal_labels"] = {m: x[row] for m, x in fields["unimodal_labels"].items()}
        samples.append(sample)
    return samples


def lacking_batch(
    fields: dict[str, Any], mode: str, rate: float, *, seed: int, step: int, blanks: BlankTokens
) -> dict[str, Any]:
    """The fields of a batch without what is missing in a step of training.

    What is missing of a sample depends on the run's seed, the step and the sample alone: a run that
    was killed goes on with the same masks, on any number of ranks, and no other random number of
    the training changes.

    Args:
        fields: of a :class:`Batch`.
        mode, rate: what is missing, and how much of it; a mode with a rate.
        seed, step: of the run, and the optimizer's steps so far.
        blanks: of :func:`blank_tokens`.
    """
    samples = []
    for sample in samples_of(fields):
        source = np.random.default_rng((seed, step, sample["index"]))
        lengths = {m: len(x) for m, x in sample["features"].items()}
        samples.append(lacking(sample, mode, rate, draw_one(mode, lengths, source), blanks))
    return collate(samples)
