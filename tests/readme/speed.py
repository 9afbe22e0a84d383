"""The figures of a stored run of ``make bench``: a picture, the targets, and what it ran on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tests.benchmarks import cases, hycon, peers, targets
from tests.readme.drawing import Theme
from tests.readme.tables import SPACE, folded, table

STORED = Path(__file__).resolve().parents[1] / "benchmarks" / "stored"
FILE = STORED / "bench.json"
SHOWN = {cases.SYMMETRIC: 64, cases.SUP_CON: 64, cases.BATCH_HARD: 64, cases.HYCON: 50}
"""The losses of the picture, and the width of their rows."""
OTHERS = (
    cases.TORCH,
    peers.OPEN_CLIP,
    peers.METRIC_LEARNING,
    "sentence-transformers",
    "info-nce-pytorch",
    peers.CHUNKED,
)
LOOPS = {hycon.MASKS: "s", hycon.ANCHOR_LOOP: "^", hycon.PAIR_LOOP: "v"}
"""HyCon has no peers: other ways to write it, by their markers."""
COMPILED: dict[str, Callable[[Theme], dict]] = {
    cases.OURS_COMPILED: lambda theme: {"color": theme.blue, "linestyle": "--", "linewidth": 1.2},
    cases.TORCH_COMPILED: lambda theme: {"color": theme.others[0], "linestyle": "--"},
}
ABOUT = ("processor", "cores", "python", "torch", "threads")
KEPT = ("loss", "case", "n", "d", "ms", "floor_ms", "MB")
KEPT_OF_COMPILATIONS = ("loss", "case", "n", "d", "s", "compilations")
FIRST = (
    (cases.SYMMETRIC, peers.OPEN_CLIP, 4096, 64, "ms"),
    (cases.SUP_CON, peers.METRIC_LEARNING, 4096, 64, "MB"),
    (cases.BATCH_HARD, peers.METRIC_LEARNING, 4096, 64, "ms"),
    (cases.HYCON, hycon.MASKS, 8192, 50, "ms"),
)
"""Loss, whom it is compared with, size and figure of the four numbers."""
COMPARED = (cases.OURS, cases.OURS_COMPILED, cases.TORCH, cases.TORCH_COMPILED)
"""The columns of the table of compiled losses."""


def stored() -> dict:
    return json.loads(FILE.read_text())


def store(file: Path) -> None:
    """Keep of a run what is shown: four digits, a line a result, no date."""
    found = json.loads(file.read_text())
    machine = {key: found["machine"][key] for key in ABOUT}
    results = lines(found["results"], KEPT)
    compilations = lines(found["compilations"], KEPT_OF_COMPILATIONS)
    STORED.mkdir(exist_ok=True)
    FILE.write_text(
        f'{{"machine": {json.dumps(machine)},\n"rounds": {found["rounds"]},\n'
        f'"results": [\n{results}\n],\n"compilations": [\n{compilations}\n]}}\n'
    )


def lines(results: list[dict], keys: Sequence[str]) -> str:
    """JSON: a line for each, of these keys alone."""
    return ",\n".join(json.dumps({key: rounded(r[key]) for key in keys}) for r in results)


def rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine() -> str:
    found = stored()
    about = found["machine"]
    threads = "one thread" if about["threads"] == 1 else f"{about['threads']} threads"
    return (
        f"Measured with `make bench` in {threads}: {about['processor']} ({about['cores']} cores),"
        f" Python {about['python']}, torch {about['torch']}, float32, forward and backward; the"
        f" median of {found['rounds']} rounds in which all cases take turns. The floor is the"
        " matrix products alone."
    )


def four_numbers() -> str:
    """What users ask for first, at the largest size that was measured."""
    found = {(r["loss"], r["case"], r["n"], r["d"]): r for r in stored()["results"]}
    rows = []
    for loss, other, n, d, key in FIRST:
        ours, theirs = (found[loss.name, case, n, d][key] for case in (cases.OURS, other))
        unit = f"{SPACE}{key}"
        values = [f"{number(x)}{unit}" for x in (ours, theirs)]
        rows.append([f"{loss.name}, {n} x {d}", *values, other, f"{number(theirs / ours)} times"])
    return table(["", "ours", "theirs", "of", "less"], rows)


def verdict_table() -> str:
    """Each target that the run can judge, where it was missed by most or met most narrowly."""
    worst: dict[targets.Target, targets.Verdict] = {}
    for verdict in targets.of_a_run(stored()):
        known = worst.get(verdict.target)
        if known is None or verdict.ratio > known.ratio:
            worst[verdict.target] = verdict
    rows = []
    for target, verdict in worst.items():
        unit, against = target.figure, f"{number(verdict.other)} {target.figure}: {target.against}"
        rows.append(
            [
                target.title,
                f"{verdict.n}, {verdict.d}",
                f"{number(verdict.ours)} {unit}",
                "" if target.against == targets.ABSOLUTE else against,
                number(verdict.ratio),
                number(target.most),
                "met" if verdict.met else "**not met**",
            ]
        )
    met = sum(verdict.met for verdict in worst.values())
    head = ["loss", "N, d", "ours", "against", "ratio", "at most", ""]
    return folded(f"The targets: {met} of {len(rows)} are met", table(head, rows))


def compiled_table() -> str:
    """Eager and compiled, ours and plain, at the largest size that all four have."""
    results = stored()["results"]
    rows = []
    for loss in cases.LOSSES:
        found = {(r["case"], r["n"], r["d"]): r for r in results if r["loss"] == loss.name}
        for d in sorted({r["d"] for r in found.values()}):
            sizes = [
                n for n in {n for _, n, _ in found} if all((c, n, d) in found for c in COMPARED)
            ]
            if sizes:
                row = [found[name, max(sizes), d] for name in COMPARED]
                cells = (f"{number(r['ms'])} ms, {number(r['MB'])} MB" for r in row)
                rows.append([loss.name, f"{max(sizes)}, {d}", *cells])
    if not rows:
        return "The stored run has no compiled losses."
    return folded("Eager and compiled", table(["loss", "N, d", *COMPARED], rows))


def number(value: float) -> str:
    """Three digits, none of them after a comma where there are three before it."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def picture(theme: Theme) -> Figure:
    results = stored()["results"]
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    panels = figure.subplots(2, len(SHOWN))
    for column, (loss, d) in enumerate(SHOWN.items()):
        own = [r for r in results if (r["loss"], r["d"]) == (loss.name, d)]
        for row, (key, label) in enumerate((("ms", "time, ms"), ("MB", "peak memory, MB"))):
            panel = panels[row, column]
            draw(panel, own, key, theme)
            if column == 0:
                panel.set_ylabel(label)
            if row == 0:
                panel.set_title(f"{loss.name}, d={d}", fontsize=10)
            else:
                panel.set_xlabel("batch size", fontsize=9)
    handles: dict[str, object] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=6,
        fontsize=8.5,
        frameon=False,
    )
    return figure


def draw(panel: Axes, results: list[dict], key: str, theme: Theme) -> None:
    for name in dict.fromkeys(r["case"] for r in results):
        style = line_style(name, theme)
        points = sorted((r["n"], r[key]) for r in results if r["case"] == name and r[key])
        if style is not None and points:
            panel.plot(*zip(*points, strict=True), label=name, **style)
    floors = sorted({(r["n"], r["floor_ms"]) for r in results if r["floor_ms"]})
    if key == "ms" and floors:
        panel.plot(*zip(*floors, strict=True), ":", color=theme.ink, label="floor", linewidth=1.2)
    panel.set(xscale="log", yscale="log", facecolor="none")
    sizes = sorted({r["n"] for r in results})
    panel.set_xticks(sizes, [str(n) for n in sizes])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.tick_params(labelsize=8)
    panel.grid(color=theme.faint, linewidth=0.5, alpha=0.7)
    panel.spines[["top", "right"]].set_visible(False)


def line_style(case: str, theme: Theme) -> dict | None:
    """How a case is drawn, the same in every panel; None where it is not shown."""
    if case == cases.OURS:
        return {"color": theme.blue, "marker": "o", "linewidth": 2.6, "zorder": 5, "markersize": 5}
    if case in COMPILED:
        return COMPILED[case](theme)
    if case in OTHERS:
        tint = theme.others[OTHERS.index(case)]
        return {"color": tint, "marker": ".", "linewidth": 1.2}
    if case in LOOPS:
        return {"color": theme.others[-1], "marker": LOOPS[case], "linewidth": 1.2, "markersize": 4}
    return None
