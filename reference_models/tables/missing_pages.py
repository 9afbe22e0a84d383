"""Curves over what is missing as files: Markdown, CSV, JSON, and a page with the figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reference_models.data.missing import MODES, WHOLE
from reference_models.running import storage
from reference_models.running.folders import one_at_a_time
from reference_models.running.robustness import Condition, MissingResults
from reference_models.tables.missing_curves import (
    ABOUT_AREA,
    ABOUT_MEAN,
    Curves,
    measured,
    paired_areas,
    place_of,
)
from reference_models.tables.pages import grid, html_page, html_table, markdown_table
from reference_models.tables.paired_rows import PairedRows
from reference_models.tables.rendering import COLOURS, inline, render
from reference_models.tables.statistics import (
    Summary,
    in_percent,
    main_metrics,
    mean_and_deviation,
    title,
    units,
)

ONE = "Each run is the checkpoint that its own training chose, one for all metrics."
NESTED = (
    "Masks are drawn once for each seed and are the same for every model; what is missing at one"
    " rate is missing at every higher one, too."
)
VECTORS = (
    "A modality without a time axis, a vector for the utterance, is missing as a whole, with the"
    " rate's probability."
)


def write_curves(
    out: Path,
    name: str,
    heading: str,
    rows: Mapping[str, Sequence[MissingResults]],
    *,
    about: Mapping[str, str],
    against: str | None = None,
) -> Path:
    """Write ``NAME.md``, ``.csv``, ``.json`` and ``.html``; returns the page.

    Args:
        out, name: of the files.
        heading: of the page.
        rows: name -> the results of its runs, one for each seed, all under the same conditions.
        about: what was evaluated, topic -> words.
        against: the row whose areas the others are compared with; None: no comparison.
    """
    first = next(iter(rows.values()))[0]
    # In a table some rows may read fewer modalities, and have fewer subsets of them.
    conditions = dict.fromkeys(c for results in rows.values() for c in results[0].conditions)
    places = {place_of(condition): condition for condition in conditions}
    found = {row: measured(results) for row, results in rows.items()}
    names = list(dict.fromkeys(metric for each in found.values() for metric in each.points))
    shown = main_metrics(names)
    rated = bool(first.mask_seeds)
    paired = _paired_over_areas(rows, against) if against is not None else PairedRows("", {})
    runs = max(map(len, rows.values()))
    over = f"over the seeds of training ({runs})"
    words = [f"What is missing: {MODES[first.mode]}.", ONE]
    if rated:
        words += [NESTED, *([] if first.mode in WHOLE else [VECTORS])]
        over += f" and of the masks ({len(first.mask_seeds)})"
    words = " ".join(
        [*words, units([names]), f"Mean ± deviation (population, the band of a curve) {over}."]
    )
    summary = "Area" if rated else "Mean"
    about_area = ABOUT_AREA if rated else ABOUT_MEAN
    if paired.found:
        about_area += f" The differences from {against}, below, are those of it."
    areas = (
        ["Row", *map(title, shown)],
        [[row, *(_cell(m, each.areas.get(m)) for m in shown)] for row, each in found.items()],
    )
    tables = _tables(shown, found, places)
    facts = ["", "here"], [[topic, text] for topic, text in about.items()]
    markdown = [
        f"# {heading}",
        markdown_table(*facts, words=True),
        words,
        f"## {summary}",
        about_area,
        markdown_table(*areas, words=False),
        *(f"## {head}\n\n{markdown_table(*t, words=False)}" for head, t in tables.items()),
        *paired.markdown(),
    ]
    page = [
        html_table(*facts, words=True),
        f"<p class=soft>{escape(words)}</p>",
        grid(_drawings(shown, found, places)),
        f"<h2>{summary}</h2><p class=soft>{escape(about_area)}</p>",
        html_table(*areas),
        *paired.html(),
        *(f"<h2>{escape(head)}</h2>{html_table(*t)}" for head, t in tables.items()),
    ]
    content = {
        **about,
        "mode": first.mode,
        "split": first.split,
        "mask_seeds": list(first.mask_seeds),
        "masks": first.masks,
        "rows": {row: asdict(each) for row, each in found.items()},
        "against": against,
        "paired": paired.records(),
    }
    files = {
        f"{name}.md": "\n\n".join(markdown) + "\n",
        f"{name}.csv": storage.csv_text(_records(found, places)),
        f"{name}.json": storage.json_text(content),
        f"{name}.html": html_page(heading, page),
    }
    with one_at_a_time(out):
        for file, text in files.items():
            storage.write(out / file, text)
    return out / f"{name}.html"


def _paired_over_areas(rows: Mapping[str, Sequence[MissingResults]], against: str) -> PairedRows:
    by_seed = {row: {each.seed: each for each in results} for row, results in rows.items()}
    found = {
        row: paired_areas(runs, by_seed[against]) for row, runs in by_seed.items() if row != against
    }
    return PairedRows(against, {row: each for row, each in found.items() if each})


def _cell(metric: str, summary: Summary | None) -> str:
    return "" if summary is None else mean_and_deviation(metric, summary)


def _tables(
    shown: Sequence[str], found: Mapping[str, Curves], places: Mapping[str, Condition]
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """By heading: one table of all metrics for a single row, else one for each metric."""
    rated = all(condition.rate is not None for condition in places.values())
    corner = "Missing" if rated else "There"
    if len(found) == 1:
        [(row, only)] = found.items()
        cells = [[p, *(_cell(m, only.points[m].get(p)) for m in shown)] for p in places]
        return {row: ([corner, *map(title, shown)], cells)}
    return {
        title(metric): (
            [corner, *found],
            [
                [p, *(_cell(metric, f.points[metric].get(p)) for f in found.values())]
                for p in places
            ],
        )
        for metric in shown
    }


def _records(found: Mapping[str, Curves], places: Mapping[str, Condition]) -> list[dict[str, Any]]:
    """A record for each row, metric and place; the areas last."""
    return [
        {
            "row": row,
            "metric": metric,
            "place": place,
            "rate": places[place].rate if place in places else None,
            "mean": summary.mean if summary.values else None,
            "std": summary.std if summary.values else None,
            "n": len(summary.values),
        }
        for row, each in found.items()
        for metric, points in each.points.items()
        for place, summary in (*points.items(), ("area", each.areas[metric]))
    ]


def _drawings(
    shown: Sequence[str], found: Mapping[str, Curves], places: Mapping[str, Condition]
) -> list[str]:
    drawings = []
    for at, metric in enumerate(name for name in shown if not name.startswith("f1")):
        points = {row: each.points[metric] for row, each in found.items()}
        svg = render(draw_curves(metric, points, places), None, "svg")
        label = f"{title(metric)} of {', '.join(found)} where something is missing"
        drawings.append(inline(svg, label=label, caption=title(metric), prefix=f"m{at}-"))
    return drawings


def draw_curves(
    metric: str,
    rows: Mapping[str, Mapping[str, Summary]],
    places: Mapping[str, Condition],
) -> Callable[[Axes, Any], None]:
    """The function that draws a metric over the rates with its deviation as a band, or at subsets.

    Args:
        metric: its flat name.
        rows: name -> place on the curve -> values.
        places: name -> what is missing there, in order.
    """
    rates = [condition.rate for condition in places.values()]
    rated = None not in rates
    ticks = rates if rated else list(range(len(places)))
    nothing = Summary(math.nan, math.nan, ())

    def draw(axes: Axes, _: Any) -> None:
        for at, (row, points) in enumerate(rows.items()):
            colour = COLOURS[at % len(COLOURS)]
            means = np.array([points.get(place, nothing).mean for place in places])
            spread = np.array([points.get(place, nothing).std for place in places])
            if rated:
                axes.fill_between(ticks, means - spread, means + spread, color=colour, alpha=0.18)
                axes.plot(ticks, means, color=colour, marker="o", ms=3.5, lw=1.8, label=row)
            else:
                beside = np.array(ticks) + 0.18 * (at - (len(rows) - 1) / 2)
                axes.errorbar(
                    beside, means, yerr=spread, fmt="o", color=colour, capsize=3, ms=5, label=row
                )
        if rated:
            axes.set_xlabel("share missing")
        else:
            axes.set_xticks(ticks, [place.replace(" + ", "\n+ ") for place in places], fontsize=8)
            axes.set_xlabel("modalities that are there")
        axes.set_ylabel(title(metric) + (", %" if in_percent(metric) else ""))
        axes.figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)

    return draw
