"""Finished runs of any kind compared with each other, paired by seed and by test sample."""

from collections.abc import Sequence
from pathlib import Path

from reference_models.running import storage
from reference_models.running.records import quoted_id
from reference_models.tables.about import facts_table
from reference_models.tables.finished import Run
from reference_models.tables.groups import find_runs, group
from reference_models.tables.pages import check_place, html_page, html_table, markdown_table
from reference_models.tables.paired import runs_by_seed
from reference_models.tables.paired_rows import PairedRows, paired_rows
from reference_models.tables.statistics import main_metrics, mean_and_deviation, title, units


def compare(places: Sequence[Path], out: Path, *, against: str | None = None) -> PairedRows:
    """Write ``compared.md``, ``.csv``, ``.json`` and ``index.html`` about groups of runs.

    Args:
        places: run folders, or folders with finished runs below them. Runs that differ in nothing
            but the seed form a group.
        out: folder of the files.
        against: name of the group that the others are compared with; None: the first one.

    Raises:
        ValueError: a place without a finished run, a single group, groups without a common seed or
            on other test samples, an unknown ``against``, an ``out`` that holds something else.
    """
    check_place(out)
    groups = {g.name: g for g in group(find_runs(places))}
    if len(groups) < 2:
        names = ", ".join(groups)
        raise ValueError(f"expected runs that differ in more than the seed, got those of {names}")
    if against is not None and against not in groups:
        raise ValueError(f"--against: expected one of {', '.join(groups)}, got {against!r}")
    base = against or next(iter(groups))
    loaded = {name: [Run(place) for place in g.folders] for name, g in groups.items()}
    found = paired_rows({name: runs_by_seed(some) for name, some in loaded.items()}, base)
    if not found.found:
        raise ValueError(f"expected runs with a seed that {base} has too, got none")
    main = main_metrics(groups[base].metrics)
    means = (
        ["Runs", "Seeds", *map(title, main)],
        [
            [
                name,
                str(len(g.folders)),
                *(mean_and_deviation(m, g.metrics[m]) if m in g.metrics else "" for m in main),
            ]
            for name, g in groups.items()
        ],
    )
    heading, said = "Runs compared", units(g.metrics for g in groups.values())
    about = f"{said} Mean ± deviation (population) over the seeds."
    markdown = [f"# {heading}", about, markdown_table(*means, words=False), *found.markdown()]
    page = [
        *facts_table([run for some in loaded.values() for run in some]),
        f"<p class=soft>{about}</p>",
        html_table(*means),
        *found.html(),
    ]
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "compared.md": "\n\n".join(markdown) + "\n",
        "compared.csv": storage.csv_text(
            [
                each | {key: quoted_id(each[key]) for key in ("row", "against")}
                for each in found.records()
            ]
        ),
        "compared.json": storage.json_text(
            {
                "against": base,
                "runs": {name: [str(place) for place in g.folders] for name, g in groups.items()},
                "paired": found.records(),
            }
        ),
        "index.html": html_page(f"{heading}: {', '.join(groups)}", page),
    }
    for name, text in files.items():
        storage.write(out / name, text)
    return found
