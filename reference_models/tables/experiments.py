"""A paper's table, reproduced: every row over several seeds, beside the published numbers.

Each run is an ordinary run folder, ``<row>/seed-<n>``; the table is rewritten after every run. The
same call continues where an earlier one was stopped, and trains nothing twice.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from reference_models import registry
from reference_models.data.data_sets import data_set_of, is_synthetic
from reference_models.data.loading import load_corpus
from reference_models.data.missing import check_mode
from reference_models.running import checkpoints, folders, records, runs
from reference_models.running.devices import ranks
from reference_models.running.robustness import MASK_SEEDS
from reference_models.running.trainer import NotFinite
from reference_models.tables.comparison import write_tables
from reference_models.tables.missing_tables import write_missing
from reference_models.tables.pages import check_place
from reference_models.tables.plan import Experiment, Row


def _silent(line: str) -> None:
    pass


def reproduce(
    model: str,
    table: str,
    *,
    data: str | Path,
    seeds: Sequence[int],
    out: Path,
    rows: Sequence[str] | None = None,
    text_encoder: str | None = None,
    settings: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    preset: str | None = None,
    against: str | None = None,
    missing: str | None = None,
    mask_seeds: int = MASK_SEEDS,
    log_to: str | None = None,
    say: Callable[[str], None] = _silent,
) -> Path:
    """Train every row of a table with every seed, and write the table in four formats.

    ``table.md``, ``table.csv`` (a line for each row and metric), ``table.json`` (everything) and
    ``index.html``; the differences between rows, paired by seed and sample, are in ``paired.csv``
    and in all but ``table.csv``. Accuracies and F1 are in percent; deviations are of the
    population. The paper's numbers, if its folder has any, are shown beside the measured ones if
    the data are the paper's, by the numbers of samples in the splits, and never beside numbers
    measured on synthetic data.

    Args:
        model, table: their names; the rows are those of the model's ``Paper.tables``.
        data, labels: the file, and the table of sentences beside it, as ``train`` takes them.
        seeds: one run each.
        out: folder of the runs and the table.
        rows: some of the table's rows; None: all.
        text_encoder, modalities: as ``train`` takes them; a row's own modalities take precedence.
        settings: "key=value", for every row; a row's own changes take precedence.
        preset: of the model, or "none"; None: the preset of the data set, if the data are the
            paper's.
        against: the row that the others are compared with, sample by sample; None: the one without
            contrast in the table "contrast", else the one without changes.
        missing: what is then missing in evaluations of all runs, a key of ``MODES`` in
            ``data/missing.py``: the folder ``missing`` gets the rows' curves and their page.
        mask_seeds: how many masks at each rate of what is missing.
        log_to: a logger, as :func:`runs.train` takes it; each run is "TABLE/ROW/seed-N" there.
        say: called with lines for the reader.

    Returns:
        The page.

    Raises:
        ValueError: an unknown model, table or row; no row that can run; a run folder that holds
            other files, or a run with other settings; no run that did not diverge.
    """
    paper = registry.find(model)
    tables = paper.tables
    if table not in tables:
        raise ValueError(f"--table: expected one of {', '.join(tables)} of {model}, got {table!r}")
    for name in rows or ():
        if name not in tables[table]:
            known = ", ".join(tables[table])
            raise ValueError(f"--rows: expected some of {known} of {table}, got {name!r}")
    shown = [name for name in tables[table] if rows is None or name in rows]
    if against is not None and against not in shown:
        raise ValueError(f"--against: expected one of {', '.join(shown)}, got {against!r}")
    check_place(out)
    corpus = load_corpus(data, labels=labels)
    if missing is not None:
        check_mode(missing, corpus.modalities)
    data_set = data_set_of(corpus)
    chosen = preset or (data_set if data_set in paper.presets else "none")
    run = Experiment(
        model,
        table,
        corpus,
        tuple(seeds),
        out,
        text_encoder,
        tuple(settings),
        None if modalities is None else tuple(modalities),
        labels,
        preset=None if chosen == "none" else chosen,
        data_set=data_set,
        synthetic=is_synthetic(corpus),
        against=against,
    )
    plan = [Row(name, tables[table][name], re.sub(r"[^\w.+-]", "-", name)) for name in shown]
    _prepare(run, plan)
    write_tables(run, plan)
    if not ranks().is_main_process:
        say = _silent
    say(f"the table so far, and what differs from the paper: {out / 'table.md'}")
    for seed in seeds:
        for row in plan:
            _train(run, plan, row, seed, say, log_to)
    say(f"\n{(out / 'table.md').read_text(encoding='utf-8')}\npage: {out / 'index.html'}")
    if all(row.reason or row.same_as or len(row.failures) == len(seeds) for row in plan):
        raise ValueError(f"{out}: expected a run that trains to its end, got none that did")
    if missing is not None and ranks().is_main_process:
        page = write_missing(run, plan, missing, mask_seeds=mask_seeds, say=say)
        write_tables(run, plan)  # with a link to the page
        say(f"\n{page.with_suffix('.md').read_text(encoding='utf-8')}\npage: {page}")
    return out / "index.html"


def _train(
    run: Experiment,
    plan: Sequence[Row],
    row: Row,
    seed: int,
    say: Callable[[str], None],
    log_to: str | None,
) -> None:
    """Train one run of a row, unless it is done or cannot run; then rewrite the table."""
    place = run.out / row.folder / f"seed-{seed}"
    if row.reason or row.same_as:
        return
    if folders.state(place) == "finished":
        folders.remove_leftovers(place)
        return
    say(f"{row.name}, seed {seed}: training in {place}")
    try:
        name = f"{run.out.name}/{row.folder}/{place.name}"
        runs.train(run.build(row, seed), run.corpus, place, log_to=log_to, log_name=name)
    except NotFinite as error:  # a run that diverges does not stop the others
        row.failures[seed] = str(error)
        say(f"{row.name}, seed {seed}: {error}")
    write_tables(run, plan)


def _prepare(run: Experiment, plan: Sequence[Row]) -> None:
    """Find the config of each row, and refuse unsuitable folders before anything is trained."""
    known: dict[str, Row] = {}
    for row in plan:
        try:
            row.config = run.build(row, run.seeds[0]).config
        except ValueError as error:
            row.reason = str(error)
            continue
        key = json.dumps({k: v for k, v in row.config.items() if k != "left_out"})
        if key in known:
            row.same_as, row.folder = known[key].name, known[key].folder
        else:
            known[key] = row
    if not known:
        raise ValueError(plan[0].reason)
    for row in known.values():
        for seed in run.seeds:
            place = run.out / row.folder / f"seed-{seed}"
            if folders.state(place) == "other":
                raise ValueError(f"--out {run.out}: expected runs, got other files in {place}")
            if folders.state(place) != "empty":
                folders.check_same(place, row.config | {"seed": seed})
            if folders.state(place) == "unfinished":
                checkpoints.check_run(place, ranks().num_processes)
            if folders.state(place) == "finished":
                records.run_metrics(place)
