"""Paired differences of many rows against one: as a table, as records, and as interval plots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from reference_models.tables.figures import intervals
from reference_models.tables.finished import Run
from reference_models.tables.pages import grid, html_table, markdown_table, markdown_text
from reference_models.tables.paired import RESAMPLED, Difference, paired_differences
from reference_models.tables.rendering import common_limits, inline, render
from reference_models.tables.statistics import in_percent, main_metrics, title

HEAD = ("Row", "Metric", "Difference", "95 % interval", "Seeds of its sign", "")
ABOUT = (
    "Paired by seed and by test sample; the interval is over both: half its width is, added in"
    " squares, that of the spread between seeds (Student's t, which makes two or three seeds wide)"
    f" and that over test samples ({RESAMPLED} bootstrap draws). A row helps or hurts where the"
    " whole interval lies on one side of 0; elsewhere these runs cannot tell. Each metric is judged"
    " alone: of twenty without any effect, one would be told to have one."
)
ONE_SEED = (
    " Where there is one seed the interval is over test samples alone, and cannot tell: another"
    " seed may differ by more."
)


@dataclass(frozen=True)
class PairedRows:
    """The differences of rows against one of them."""

    against: str
    found: dict[str, dict[str, Difference]]
    apart: tuple[str, ...] = ()
    """Rows without a seed in common with it."""

    def about(self) -> str:
        """How to read the table."""
        alone = any(each.seeds == 1 for row in self.found.values() for each in row.values())
        none = f" Without a seed of {self.against}: {', '.join(self.apart)}." if self.apart else ""
        return ABOUT + (ONE_SEED if alone else "") + none

    def lines(self) -> list[list[str]]:
        """The cells of the table under :data:`HEAD`, metrics of MAG-BERT's protocol left out."""
        return [
            [row, title(name), *_in_words(name, each)]
            for row, differences in self.found.items()
            for name in main_metrics(differences)
            for each in [differences[name]]
        ]

    def records(self) -> list[dict[str, Any]]:
        """A record for each row and metric, for a CSV file."""
        return [
            {"row": row, "against": self.against, "metric": name, **asdict(each)}
            for row, differences in self.found.items()
            for name, each in differences.items()
        ]

    def sentences(self, row: str, names: Sequence[str]) -> list[str]:
        """A sentence for each of some metrics: "MAE: -0.012 (-0.020 to -0.004), ...: helps"."""
        out = []
        for name in names:
            value, interval, same, word = _in_words(name, self.found[row][name])
            out.append(
                f"{title(name)} of {row} minus that of {self.against}: {value} ({interval}),"
            )
            out[-1] += f" {same} seeds: {word}"
        return out

    def markdown(self) -> list[str]:
        """The paragraphs of a Markdown file; none where nothing can be compared."""
        if not self.found:
            return []
        table = markdown_table(HEAD, self.lines(), words=False)
        about = markdown_text(self.about())
        return [f"## Differences from {markdown_text(self.against)}", about, table]

    def html(self) -> list[str]:
        """The parts of a page: the plots, and the table."""
        if not self.found:
            return []
        names = main_metrics(dict.fromkeys(name for each in self.found.values() for name in each))
        names = [name for name in names if not name.startswith("f1")]
        draws = {
            name: intervals(
                name, {row: each[name] for row, each in self.found.items() if name in each}
            )
            for name in names
        }
        shares = [(draw, None) for name, draw in draws.items() if in_percent(name)]
        limits = common_limits(shares) if shares else None
        height, drawings = 1 + 0.5 * len(self.found), []
        for at, (name, draw) in enumerate(draws.items()):
            own = limits if in_percent(name) else None
            svg = render(draw, None, "svg", limits=own, height=height)
            label = f"{title(name)}: differences from {self.against}"
            drawings.append(inline(svg, label=label, caption=title(name), prefix=f"d{at}-"))
        return [
            f"<h2>Differences from {escape(self.against)}</h2>"
            f"<p class=soft>{escape(self.about())}</p>",
            grid(drawings),
            html_table(HEAD, self.lines()),
        ]


def paired_rows(rows: Mapping[str, Mapping[int, Run]], against: str) -> PairedRows:
    """The differences of all rows from one of them, whose name is ``against``.

    Args:
        rows: name -> the finished runs by seed.
        against: a key of ``rows``.
    """
    found = {
        name: paired_differences(runs, rows[against])
        for name, runs in rows.items()
        if name != against
    }
    apart = tuple(name for name, each in found.items() if rows[name] and not each)
    return PairedRows(against, {name: each for name, each in found.items() if each}, apart)


def base_row(overrides: Mapping[str, Mapping[str, Any]]) -> str:
    """The row that the others are compared with: the one without contrast, else the unchanged one.

    In the table "contrast" a row then helps where contrast does, and in a table of ablations a row
    hurts where what it leaves out helps.
    """
    names: Sequence[str] = list(overrides)
    unchanged = [name for name in names if not overrides[name]]
    if set(names) == {"full", "wo_contrast"}:
        return "wo_contrast"
    return (unchanged or list(names))[0]


def _in_words(metric: str, difference: Difference) -> list[str]:
    form = "+.1f" if in_percent(metric) else "+.3f"
    value, low, high = (
        format(x, form) for x in (difference.value, difference.low, difference.high)
    )
    same = f"{difference.same_sign} of {difference.seeds}"
    return [value, f"{low} to {high}", same, difference.word]
