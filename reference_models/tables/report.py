"""One self-contained HTML page about runs: their metrics, and the figures that the papers draw."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from reference_models.keys import changes_in_words
from reference_models.running import storage
from reference_models.tables.about import data_name, facts_table, model_name
from reference_models.tables.figures import figures_of, sweep
from reference_models.tables.finished import Run
from reference_models.tables.groups import Group, find_runs, group, swept
from reference_models.tables.pages import check_page, grid, html_page, html_table
from reference_models.tables.paired import runs_by_seed
from reference_models.tables.paired_rows import PairedRows, paired_rows
from reference_models.tables.panels import sections
from reference_models.tables.rendering import inline, render
from reference_models.tables.statistics import (
    MAG_BERT,
    main_metrics,
    mean_and_deviation,
    summaries,
    units,
)
from reference_models.tables.statistics import title as metric_title

SYNTHETIC = (
    "The corpus is synthetic: its sentences and signals were generated. The numbers show that the"
    " machinery works; they are not to be put beside published ones."
)


def write_report(
    runs: Mapping[str, Sequence[Path]],
    page: Path,
    *,
    title: str,
    lead: str,
    note: str | None = None,
    against: str | None = None,
    go_on: Sequence[tuple[str, str]] = (),
) -> PairedRows | None:
    """Write a self-contained page of finished runs.

    Args:
        runs: the name that the page gives some runs, and their folders, one for each seed. The
            figures are of the first.
        page: the HTML file.
        title, lead: heading, and the sentence under it.
        note: a warning to the reader, in a box.
        against: the name that the others are compared with, seed by seed and sample by sample.
        go_on: pairs of a next step and the command for it.

    Returns:
        The differences from ``against``, as they stand on the page.

    Raises:
        ValueError: a folder without a finished run, a run whose files were cut or changed, or a
            ``page`` that exists and was not written by this package.
    """
    check_page(page)
    loaded = {name: [Run(folder) for folder in folders] for name, folders in runs.items()}
    means = {name: summaries([r.metrics["test"] for r in some]) for name, some in loaded.items()}
    head = main_metrics(dict.fromkeys(m for each in means.values() for m in each))
    rows = [
        [
            name,
            str(len(some)),
            *(mean_and_deviation(m, means[name][m]) if m in means[name] else "" for m in head),
            f"{', '.join(str(run.metrics['best_epoch']) for run in some)} of"
            f" {max(len(run.history) for run in some)}",
        ]
        for name, some in loaded.items()
    ]
    paired = None
    if against is not None:
        every = {name: runs_by_seed(some) for name, some in loaded.items()}
        paired = paired_rows(every, against)
    parts = [
        f"<p>{escape(lead)}</p>",
        *_note_box(note),
        *facts_table([run for some in loaded.values() for run in some]),
        "<h2>Test results</h2>",
        f"<p class=soft>{units(means.values())} Mean ± deviation (population) over the seeds.</p>",
        html_table(["Model", "Seeds", *map(metric_title, head), "Epochs kept"], rows),
        *(paired.html() if paired is not None else ()),
        *sections({name: some[0] for name, some in loaded.items()}),
    ]
    if go_on:
        steps = "\n\n".join(f"# {words}\n{command}" for words, command in go_on)
        parts.append(f"<h2>How to go on</h2><pre>{escape(steps)}</pre>")
    _write(page, html_page(title, parts))
    return paired


def report(places: Sequence[Path], page: Path) -> list[Group]:
    """Write the page of any number of run folders; runs with different seeds form a group.

    The table has mean and deviation over the seeds; the figures of a group show its first run. If
    the groups differ in a single, numeric setting, the metrics are drawn against it.

    Args:
        places: run folders, or folders with finished runs anywhere below them.
        page: the HTML file.

    Returns:
        The groups, in the table's order.

    Raises:
        ValueError: a place without a finished run, or a ``page`` that exists and was not written by
            this package.
    """
    check_page(page)
    groups = group(find_runs(places))
    names = list(dict.fromkeys(name for g in groups for name in g.metrics))
    main = main_metrics(names)
    own = [name for name in names if name.startswith(MAG_BERT)]
    loaded = {g.name: [Run(folder) for folder in g.folders] for g in groups}
    every = [run for some in loaded.values() for run in some]
    first = {name: some[0] for name, some in loaded.items()}
    synthetic = any(id.startswith("synthetic") for run in first.values() for id in run.ids)
    parts = [
        *_note_box(SYNTHETIC if synthetic else None),
        *facts_table(every),
        "<h2>Test results</h2>",
        f"<p class=soft>{units(g.metrics for g in groups)} Mean ± deviation (population) over the"
        " seeds.</p>",
        html_table(["Run", "Seeds", *map(metric_title, main)], _rows(groups, main)),
    ]
    if own:
        parts += [
            "<p class=soft>The same by the MAG-BERT protocol: Acc-7 and Acc-5 on all samples, the"
            " others without the samples of label 0.</p>",
            html_table(["Run", "Seeds", *map(metric_title, own)], _rows(groups, own)),
        ]
    if any(g.settings for g in groups):
        apart = [(g.name, changes_in_words(g.settings)) for g in groups]
        parts += [
            "<p class=soft>What tells the runs apart:</p>",
            html_table(["Run", "Settings"], apart, words=True),
        ]
    field = swept(groups)
    if field is not None:
        points = {g.settings[field]: g.metrics for g in groups}
        drawn = [name for name in main if not name.startswith("f1")]
        drawings = []
        for at, name in enumerate(drawn):
            draw = sweep(name, field, {value: metrics[name] for value, metrics in points.items()})
            svg, what = render(draw, None, "svg"), f"{metric_title(name)} against {field}"
            drawings.append(inline(svg, label=what, caption=metric_title(name), prefix=f"s{at}-"))
        words = f"Test metrics against {field}: mean and deviation over the seeds."
        parts.append(f"<h2>Sweep</h2><p class=soft>{escape(words)}</p>{grid(drawings)}")
    _write(page, html_page(_title_of(every), parts + sections(first)))
    return groups


def _title_of(runs: Sequence[Run]) -> str:
    data = data_name(runs)
    return f"{model_name(runs)}: {len(runs)} run{'s' * (len(runs) > 1)}" + (
        f" on {data}" if data else ""
    )


def save_figures(groups: Sequence[Group], folder: Path, kind: str) -> list[Path]:
    """Write the figures of each group's first run as files: "svg" or "png"."""
    written: list[Path] = []
    for at, g in enumerate(groups):
        run, name = Run(g.folders[0]), _plain(g.name)
        if not name or name in map(_plain, (other.name for other in groups[:at])):
            name = f"{name}-{at + 1}".strip("-")  # what tells it apart was left out
        for figure in figures_of(run)[0]:
            path = folder / f"{name}-{_plain(figure.heading)}.{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            storage.write(path, render(figure.draw, run, kind))
            written.append(path)
    return written


def _rows(groups: Sequence[Group], names: Sequence[str]) -> list[list[str]]:
    return [
        [
            g.name,
            str(len(g.folders)),
            *(
                mean_and_deviation(name, g.metrics[name]) if name in g.metrics else ""
                for name in names
            ),
        ]
        for g in groups
    ]


def _note_box(note: str | None) -> list[str]:
    return [] if note is None else [f'<p class="note">{escape(note)}</p>']


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _write(page: Path, html: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    storage.write(page, html)
