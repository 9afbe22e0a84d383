"""Runs where something is missing: one run's curves, and those of all rows of a table."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reference_models.data.corpus import Corpus
from reference_models.running import records
from reference_models.running.restoring import check_finished
from reference_models.running.robustness import (
    FOLDER,
    MASK_SEEDS,
    MissingResults,
    evaluate_missing,
)
from reference_models.running.runs import data_of
from reference_models.tables.about import data_words, facts
from reference_models.tables.finished import Run
from reference_models.tables.missing_pages import write_curves
from reference_models.tables.paired_rows import base_row
from reference_models.tables.plan import Experiment, Row


def evaluate_run(
    folder: Path,
    mode: str,
    *,
    data: str | None = None,
    labels: str | None = None,
    split: str = "test",
    mask_seeds: int = MASK_SEEDS,
    say: Callable[[str], None],
) -> Path:
    """Write a finished run's curves into its folder, below ``missing``; returns the page.

    Args:
        folder: the run.
        mode: what is missing: a key of ``MODES`` in ``data/missing.py``.
        data, labels, split: as ``evaluate`` takes them.
        mask_seeds: how many masks at each rate.
        say: called with lines for the reader.

    Raises:
        ValueError: as ``evaluate`` and ``evaluate_missing``.
    """
    check_finished(folder)
    config = records.run_config(folder)
    corpus = data_of(folder, config, data=data, labels=labels)
    found = evaluate_missing(folder, mode, corpus, split=split, mask_seeds=mask_seeds, say=say)
    # The curves on another file stand beside those on the run's own.
    other = "" if corpus.sha256 == config["data"]["sha256"] else f"-{corpus.sha256[:12]}"
    name = f"{config['model']}, seed {config['seed']}"
    return write_curves(
        folder / FOLDER,
        f"{mode}-{split}{other}",
        f"{name}: {mode} missing",
        {name: [found]},
        about=_about([folder], corpus, split),
    )


def write_missing(
    run: Experiment,
    plan: Sequence[Row],
    mode: str,
    *,
    mask_seeds: int = MASK_SEEDS,
    say: Callable[[str], None],
) -> Path:
    """Write the curves of a table's rows, on the same axes and compared; returns the page.

    The masks and the files are in the folder ``missing`` of the table's. Rows without a finished
    run are left out.

    Raises:
        ValueError: no finished run at all, or as ``evaluate_missing``.
    """
    out = run.out / FOLDER
    against = run.against or base_row({row.name: row.overrides for row in plan})
    rows: dict[str, list[MissingResults]] = {}
    evaluated: list[Path] = []
    for row in plan:
        if row.reason is None and (row.same_as is None or row.name == against):
            places = run.finished(row)
            found = [
                evaluate_missing(
                    place, mode, run.corpus, mask_seeds=mask_seeds, masks=out / "masks", say=say
                )
                for place in places
            ]
            if found:
                rows[row.name] = found
                evaluated += places
    if not rows:
        raise ValueError(f"--missing: expected a finished run in {run.out}, got none")
    return write_curves(
        out,
        mode,
        f"{run.model}, table {run.table}: {mode} missing",
        rows,
        about=_about(evaluated, run.corpus, "test"),
        against=against if against in rows and len(rows) > 1 else None,
    )


def _about(runs: Sequence[Path], corpus: Corpus, split: str) -> dict[str, str]:
    """What pages say of runs, with the data that they were evaluated on."""
    told = {topic.lower(): words for topic, words in facts([Run(folder) for folder in runs])}
    data = {"path": corpus.path, "known_as": corpus.known_as, "sha256": corpus.sha256}
    samples = f"{split}, {len(corpus.splits[split])} samples"
    return told | {"data": data_words(data), "samples": samples}
