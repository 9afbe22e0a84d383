"""Measured numbers beside the published ones, and the differences between the two set-ups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from reference_models import registry
from reference_models.data.data_sets import NAMES
from reference_models.keys import changes_in_words
from reference_models.layers.inputs import MODALITIES
from reference_models.running import storage
from reference_models.running.description import rate_words
from reference_models.running.devices import ranks
from reference_models.running.robustness import FOLDER
from reference_models.tables.about import facts_table
from reference_models.tables.finished import Run
from reference_models.tables.links import links_to_missing, links_to_runs
from reference_models.tables.pages import html_page, html_table, markdown_table
from reference_models.tables.paired import runs_by_seed
from reference_models.tables.paired_rows import PairedRows, base_row, paired_rows
from reference_models.tables.panels import sections
from reference_models.tables.plan import Experiment, Row
from reference_models.tables.published import published_row
from reference_models.tables.statistics import (
    Summary,
    main_metrics,
    mean_and_deviation,
    printed,
    summaries,
    title,
    units,
)
from reference_models.training_config import SELECTIONS


@dataclass(frozen=True)
class Line:
    """One row: the measured numbers, the published ones, and a remark."""

    name: str
    measured: dict[str, Summary]
    published: dict[str, float | None]
    remark: str


def write_tables(run: Experiment, plan: Sequence[Row]) -> None:
    """Write the results so far, as ``table.md``, ``.csv``, ``.json`` and ``index.html``.

    The differences between rows are in ``paired.csv`` and in all but ``table.csv``.

    On several ranks the first one writes.
    """
    if not ranks().is_main_process:
        return
    finished = {
        row.name: [Run(place) for place in run.finished(row)] for row in plan if row.reason is None
    }
    lines = [_compared(run, row, finished.get(row.name, ())) for row in plan]
    heading = f"{run.model}, table {run.table}"
    note = _note_of(run, any(line.published for line in lines))
    measured = list(dict.fromkeys(name for line in lines for name in line.measured))
    published = list(dict.fromkeys(name for line in lines for name in line.published))
    metrics = published or main_metrics(measured)
    differing = differences(run, plan, metrics)
    table = ["Row", "", *map(title, metrics)], _table_rows(lines, metrics)
    printed_setting = bool(registry.find(run.model).printed["setting"])
    words = (
        (["", "the paper", "here"], differing)
        if printed_setting
        else (["", "here"], [(topic, here) for topic, _, here in differing])
    )
    remarks = [f"{row.name}: {changes_in_words(row.overrides)}" for row in plan if row.overrides]
    remarks += [f"{line.name}: {line.remark}" for line in lines if line.remark]
    paired = _paired(run, plan, finished)
    shared = {row.name for row in plan if row.same_as is not None}
    about = f"{units(line.measured for line in lines)} Mean ± deviation (population) over n seeds."
    markdown = [
        f"# {heading}",
        note,
        markdown_table(*words, words=True),
        about,
        markdown_table(*table, words=False),
        "\n".join(f"* {remark}" for remark in remarks),
        *paired.markdown(),
    ]
    own = {name: runs[0] for name, runs in finished.items() if runs and name not in shared}
    page = [
        f'<p class="note">{escape(note)}</p>',
        *facts_table([each for runs in finished.values() for each in runs]),
        "<h2>What differs</h2>",
        html_table(*words, words=True),
        f"<h2>Table</h2><p class=soft>{about}</p>",
        html_table(*table),
        "".join(f"<p class=soft>{escape(remark)}</p>" for remark in remarks),
        *paired.html(),
        *links_to_missing(run.out / FOLDER),
        *links_to_runs(run.out, finished),
        *sections(own, curves_only=True),
    ]
    content = {
        "model": run.model,
        "table": run.table,
        "data_set": run.data_set,
        "synthetic": run.synthetic,
        "seeds": list(run.seeds),
        "overrides": {row.name: dict(row.overrides) for row in plan},
        "folders": {row.name: row.folder for row in plan if row.reason is None},
        "note": note,
        "differences": [dict(zip(("topic", "paper", "here"), d, strict=True)) for d in differing],
        "rows": [asdict(line) for line in lines],
        "against": paired.against,
        "paired": paired.records(),
    }
    run.out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys([*measured, *published]))
    files = {
        "table.md": "\n\n".join(part for part in markdown if part) + "\n",
        "table.csv": storage.csv_text(_values(lines, names)),
        "table.json": storage.json_text(content),
        "index.html": html_page(f"{heading}: {Path(run.corpus.path).name}", page),
    }
    if paired.found:
        files["paired.csv"] = storage.csv_text(paired.records())
    else:  # that of an earlier call, with other rows
        storage.remove(run.out / "paired.csv")
    for name, text in files.items():
        storage.write(run.out / name, text)


def _compared(run: Experiment, row: Row, finished: Sequence[Run]) -> Line:
    remarks = [] if row.reason is None else [f"cannot run here: {row.reason}"]
    if row.same_as is not None:
        remarks.append(f"is the same run as {row.same_as}")
    remarks += [f"seed {seed} failed: {words}" for seed, words in row.failures.items()]
    measured = summaries([each.metrics["test"] for each in finished])
    published = published_row(
        registry.find(run.model), run.table, run.data_set, row.name, text_encoder=run.text_encoder
    )
    return Line(row.name, measured, published, "; ".join(remarks))


def _paired(
    run: Experiment, plan: Sequence[Row], finished: Mapping[str, Sequence[Run]]
) -> PairedRows:
    """The differences of the rows that have runs of their own from the base row, or ``against``."""
    overrides = {row.name: row.overrides for row in plan}
    against = run.against or base_row(overrides)
    rows = {
        row.name: runs_by_seed(finished[row.name])
        for row in plan
        if row.name in finished and (row.same_as is None or row.name == against)
    }
    return paired_rows(rows, against) if against in rows else PairedRows(against, {})


def _table_rows(lines: Sequence[Line], metrics: Sequence[str]) -> list[list[str]]:
    """A row of measured numbers, and below it one of published numbers, if there are any."""
    cells = []
    for line in lines:
        runs = max((len(summary.values) for summary in line.measured.values()), default=0)
        values = (
            mean_and_deviation(name, line.measured[name]) if name in line.measured else ""
            for name in metrics
        )
        cells.append([line.name, f"measured, n={runs}" if runs else "not measured", *values])
        if line.published:
            given = (printed(name, line.published.get(name)) for name in metrics)
            cells.append([line.name, "published", *given])
    return cells


def _values(lines: Sequence[Line], names: Sequence[str]) -> list[dict[str, Any]]:
    """A record for each row and metric; a row without metrics has one record."""
    return [
        {
            "row": line.name,
            "metric": name,
            "mean": None if math.isnan(summary.mean) else summary.mean,
            "std": None if math.isnan(summary.std) else summary.std,
            "n": len(summary.values),
            "published": line.published.get(name),
        }
        for line in lines
        for name in names or [""]
        for summary in [line.measured.get(name, Summary(math.nan, math.nan, ()))]
    ]


def differences(
    run: Experiment, plan: Sequence[Row], metrics: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Where this run differs, or may differ, from the paper: topic, the paper, here.

    Args:
        run, plan: the table.
        metrics: those that it shows, by their flat names.
    """
    paper, configs = registry.find(run.model), [row.config for row in plan if row.config]
    _, training = run.configure(run.settings)
    # What any of the rows reads: one may have fewer modalities than the others.
    sizes = {m: size for config in configs for m, size in config["sizes"].items()}
    sizes = {m: sizes[m] for m in MODALITIES if m in sizes}
    text = next((c["text"] for c in configs if "text" in c["sizes"]), configs[0]["text"])
    corpus, data = run.corpus, configs[0]["data"]
    encoder = {None: "none", "features": "none: precomputed features"}
    missing = [m for m in paper.reads if m not in corpus.modalities]
    changed = [
        f"; {key}={new} (instead of {old})"
        for before, after in zip(run.configure(), run.configure(run.settings), strict=True)
        for (key, new), old in zip(asdict(after).items(), asdict(before).values(), strict=True)
        if new != old
    ]
    rate = rate_words(training, text["encoder"])
    here = {
        "text encoder": encoder.get(text["column"], text["encoder"]),
        "modalities": ", ".join(sizes)
        + (f" (not in the file: {', '.join(missing)})" if missing else ""),
        "features": ", ".join(
            f"{m} {size} of the text encoder"
            if m == "text" and text["column"] != "features"
            else f"{m} {size} in up to {corpus.splits['train'].features[m].shape[1]} steps"
            for m, size in sizes.items()
        ),
        "data": f"{Path(data['path']).name}, {data['known_as'] or 'not a known public file'},"
        f" SHA-256 {data['sha256'][:12]}..., {'/'.join(map(str, data['samples'].values()))} samples"
        + (", synthetic" if run.synthetic else ""),
        "training": f"preset {run.preset or 'none'}: up to {training.epochs} epochs, batches of"
        f" {training.batch_size}, learning rate {rate}{''.join(changed)}",
        "selection": SELECTIONS[training.selection],
        "runs": f"mean of {len(run.seeds)}: seeds {', '.join(map(str, run.seeds))}",
        "metrics": ", ".join(map(title, metrics))
        + ("; MAE and Corr of all samples" if "mae" in metrics else ""),
    }
    setting = paper.printed["setting"] or dict.fromkeys(here, "not stored here")
    return [(topic, words, here.get(topic, "the same")) for topic, words in setting.items()]


def _note_of(run: Experiment, published: bool) -> str:
    if run.synthetic:
        return (
            "The corpus is synthetic, so its numbers are not shown beside published ones: they show"
            " that the machinery works, and no more."
        )
    if registry.find(run.model).published is None:
        return f"No published numbers of {run.model} are stored: all numbers here are measured."
    if run.data_set is None:
        return (
            "No published numbers are shown: by its numbers of samples the file is none of the data"
            " sets that the papers report on."
        )
    if not published:
        return f"The paper prints no such row for {NAMES[run.data_set]}."
    return (
        f"Published numbers are the paper's, {NAMES[run.data_set]}. Before comparing them with the"
        " measured ones, see what differs between the two set-ups, listed below."
    )
