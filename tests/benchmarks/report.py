"""The results as a table, a file and plots."""

import datetime
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import torch

AGREE = 1e-3
"""Relative distance of two losses' values that rounding explains."""


def machine() -> dict[str, object]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def unique(values: Iterable) -> list:
    return list(dict.fromkeys(values))


def number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def tables(results: list[dict]) -> str:
    """Markdown: for each loss and width, a row a case and two columns a batch size."""
    parts = []
    for loss in unique(r["loss"] for r in results):
        for d in unique(r["d"] for r in results if r["loss"] == loss):
            parts.append(_table([r for r in results if (r["loss"], r["d"]) == (loss, d)], loss, d))
    return "\n\n".join(parts)


def _table(results: list[dict], loss: str, d: int) -> str:
    sizes = sorted({r["n"] for r in results})
    floors = {r["n"]: r["floor_ms"] for r in results}
    with_floor = any(floors.values())
    unit = "ms (x floor)" if with_floor else "ms"
    lines = [["", *(x for n in sizes for x in (f"N={n}: {unit}", "MB"))]]
    if with_floor:
        lines.append(["floor", *(x for n in sizes for x in (number(floors[n]), ""))])
    for case in unique(r["case"] for r in results):
        found = {r["n"]: r for r in results if r["case"] == case}
        mark = " (other value!)" if any(r["apart"] > AGREE for r in found.values()) else ""
        line = [case + mark]
        for n in sizes:
            if n not in found:
                line += ["-", "-"]
                continue
            ms, floor = found[n]["ms"], floors[n]
            ratio = f" ({number(ms / floor)})" if floor else ""
            line += [number(ms) + ratio, number(found[n]["MB"])]
        lines.append(line)
    return f"### {loss}, d={d}\n\n{aligned(lines)}"


def compilations(results: list[dict]) -> str:
    """Markdown: what it takes to compile each case."""
    lines = [["", "first compilation, s", "compilations for all sizes"]]
    for r in results:
        name = f"{r['loss']}: {r['case']}"
        lines.append([name, number(r["s"]), str(r["compilations"] or "-")])
    return f"### Compiling\n\n{aligned(lines)}"


def against(results: list[dict]) -> str:
    """Markdown: our cases beside those of another checkout."""
    lines = [["", "N", "d", "before, ms", "now, ms", "ratio", "quartiles"]]
    for r in results:
        ratio = r["ms"] / r["before_ms"]
        spread = "{:.3f} to {:.3f}".format(*r["quartiles"])
        where = [f"{r['loss']}: {r['case']}", str(r["n"]), str(r["d"])]
        lines.append([*where, number(r["before_ms"]), number(r["ms"]), f"{ratio:.3f}", spread])
    return f"### Against the other checkout\n\n{aligned(lines)}"


def aligned(lines: list[list[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    text = [
        " | ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (lines[0], rules, *lines[1:])
    ]
    return "\n".join(f"| {line} |" for line in text)


def write_whole(path: Path, text: str) -> None:
    """So that the file is whole at any time, whenever the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(text + "\n")
    os.replace(beside, path)


def write(folder: Path, found: dict, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "bench.md").write_text(text + "\n")
    plots(folder, found["results"])


def plots(folder: Path, results: list[dict]) -> None:
    """For each loss a figure: time and memory against N, a row of panels a width."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    for loss in unique(r["loss"] for r in results):
        own = [r for r in results if r["loss"] == loss]
        widths = unique(r["d"] for r in own)
        cases = unique(r["case"] for r in own)
        figure = Figure(figsize=(10, 1 + 3.5 * len(widths)), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(len(widths), 2, squeeze=False)
        for d, row in zip(widths, panels, strict=True):
            here = [r for r in own if r["d"] == d]
            for panel, figure_name, label in zip(
                row, ("ms", "MB"), ("processor time, ms", "peak memory, MB"), strict=True
            ):
                for k, case in enumerate(cases):
                    points = [(r["n"], r[figure_name]) for r in here if r["case"] == case]
                    points = [(n, value) for n, value in points if value]  # a logarithm's
                    width = 2.5 if k == 0 else 1.2
                    panel.plot(*_columns(points), "o-", label=case, color=f"C{k}", linewidth=width)
                if figure_name == "ms":
                    floor = {(r["n"], r["floor_ms"]) for r in here if r["floor_ms"]}
                    if floor:
                        panel.plot(*_columns(floor), "k:", label="floor")
                panel.set(xscale="log", yscale="log", xlabel="N", ylabel=label)
                sizes = sorted({r["n"] for r in here})
                panel.set_xticks(sizes, [str(n) for n in sizes])
                panel.set_xticks([], minor=True)
                panel.set_title(f"{loss}, d={d}")
                panel.grid(alpha=0.3)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
        figure.savefig(folder / f"{loss.replace(' ', '-')}.svg")


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    ordered = sorted(points)
    return [x for x, _ in ordered], [y for _, y in ordered]
