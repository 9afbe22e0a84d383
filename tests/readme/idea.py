"""The picture of the idea: a batch, its similarities, who attracts and repels whom, one loss.

The marks are the masks that the package makes for the batch that is shown, and the shades are its
similarities.
"""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from mmcontrast import inter_modal_pairs, intra_modal_pairs, l2_normalize
from tests.readme.drawing import Theme

MODALITIES = ("text", "audio", "vision")
LABELS = torch.tensor([1, 1, 0, 0])
PRESENT = {"audio": torch.tensor([True, True, True, False])}
N, M = len(LABELS), len(MODALITIES)


def batch() -> dict[str, Tensor]:
    """Rows that know their class and their sample, each modality in its own way."""
    generator = torch.Generator().manual_seed(7)
    centre = torch.randn(2, 8, generator=generator)[LABELS] + 0.8 * torch.randn(
        N, 8, generator=generator
    )
    return {name: centre + 0.6 * torch.randn(N, 8, generator=generator) for name in MODALITIES}


def marks() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(M N, M N) similarities, and bool: who attracts, who repels, who is the same sample."""
    features = batch()
    rows = l2_normalize(torch.cat([features[name] for name in MODALITIES]))
    attract = torch.zeros(M * N, M * N, dtype=torch.bool)
    repel = attract.clone()
    intra = intra_modal_pairs(features, LABELS, present=PRESENT)
    inter = inter_modal_pairs(features, LABELS, present=PRESENT)
    for m, name in enumerate(MODALITIES):
        own = slice(m * N, (m + 1) * N)
        attract[own, own], repel[own, own] = intra[name].positives, intra[name].negatives
        others = [k for k in range(M * N) if k // N != m]
        attract[own, others], repel[own, others] = inter[name].positives, inter[name].negatives
    here = torch.cat([PRESENT.get(name, torch.ones(N, dtype=torch.bool)) for name in MODALITIES])
    sample = torch.arange(N).repeat(M)
    same = (sample == sample[:, None]) & here & here[:, None] & ~torch.eye(M * N, dtype=torch.bool)
    return rows @ rows.T, attract, repel, same


def picture(theme: Theme) -> Figure:
    figure = Figure(figsize=(11, 4.9))
    panels = [
        figure.add_axes(place, frameon=False)
        for place in (
            (0.005, 0.02, 0.27, 0.90),
            (0.285, 0.02, 0.40, 0.90),
            (0.70, 0.02, 0.295, 0.90),
        )
    ]
    titles = ("a batch", "who attracts, who repels", "one loss")
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        panel.set(xticks=[], yticks=[], anchor="NW")
        left = panel.get_position().x0 + 0.012
        figure.text(left, 0.95, f"{k + 1}  {title}", fontsize=11, weight="bold")
    draw_batch(panels[0], theme)
    draw_matrix(panels[1], theme)
    draw_loss(panels[2], theme)
    return figure


def colour(sample: int, theme: Theme) -> str:
    return theme.blue if LABELS[sample] else theme.orange


def draw_batch(panel: Axes, theme: Theme) -> None:
    panel.set(xlim=(-1.5, N - 0.2), ylim=(M + 1.25, -1.0), aspect="equal", anchor="W")
    panel.text(-0.6, -0.75, "sample", ha="right", fontsize=8)
    for i in range(N):
        panel.text(i, -0.75, str(i + 1), ha="center", fontsize=8)
    for m, name in enumerate(MODALITIES):
        panel.text(-0.6, m, name, ha="right", va="center", fontsize=10)
        for i in range(N):
            there = bool(PRESENT[name][i]) if name in PRESENT else True
            edge = colour(i, theme) if there else theme.faint
            panel.add_patch(
                Circle(
                    (i, m),
                    0.3,
                    facecolor=to_rgba(edge, 0.35) if there else "none",
                    edgecolor=edge,
                    linewidth=1.6,
                    linestyle="-" if there else ":",
                )
            )
            panel.text(
                i, m, f"{name[0]}{i + 1}" if there else "", ha="center", va="center", fontsize=8
            )
    for label, about in ((1, "positive"), (0, "negative")):
        where = [i for i in range(N) if LABELS[i] == label]
        middle = sum(where) / len(where)
        tint = colour(where[0], theme)
        panel.plot([where[0] - 0.3, where[-1] + 0.3], [M - 0.35] * 2, color=tint, linewidth=1.6)
        panel.text(middle, M - 0.1, about, ha="center", va="center", fontsize=9, color=tint)
    panel.text((N - 1) / 2, M + 0.45, "classes from labels, scores or ids", ha="center", fontsize=9)
    panel.text((N - 1) / 2, M + 0.85, "dotted: this sample has no audio", ha="center", fontsize=9)


def draw_matrix(panel: Axes, theme: Theme) -> None:
    similarity, attract, repel, same = marks()
    size, gap = M * N, 0.35
    place = torch.arange(size) + gap * (torch.arange(size) // N)
    end = float(place[-1]) + 1
    panel.set(xlim=(-2.0, end + 0.1), ylim=(end + 0.1, -1.1), aspect="equal")
    shades = LinearSegmentedColormap.from_list(
        "shades", [to_rgba(theme.ink, 0.0), to_rgba(theme.ink, 0.28)]
    )
    for m, name in enumerate(MODALITIES):
        middle = float(place[m * N]) + N / 2
        panel.text(middle, -0.45, name, ha="center", fontsize=10)
        panel.text(-0.4, middle, name, ha="right", va="center", fontsize=10)
        for k in range(M):
            corner = (float(place[k * N]), float(place[m * N]))
            within = {"edgecolor": theme.ink, "linewidth": 1.8}
            across = {"edgecolor": theme.faint, "linewidth": 1.0}
            panel.add_patch(
                Rectangle(corner, N, N, facecolor="none", **(within if k == m else across))
            )
    for kind, mask in (("attract", attract), ("repel", repel), ("same", same)):
        rows, columns = (place[k].tolist() for k in mask.nonzero(as_tuple=True))
        for x, y, value in zip(columns, rows, similarity[mask].tolist(), strict=True):
            panel.add_patch(Rectangle((x, y), 1, 1, facecolor=shades((value + 1) / 2), linewidth=0))
        draw_marks(panel, [x + 0.5 for x in columns], [y + 0.5 for y in rows], kind, theme)


def draw_marks(panel: Axes, x: list[float], y: list[float], kind: str, theme: Theme) -> None:
    styles = {
        "attract": {"marker": "o", "color": theme.blue, "markersize": 7},
        "repel": {"marker": "x", "color": theme.orange, "markersize": 6, "markeredgewidth": 1.7},
        "same": {
            "marker": "D",
            "color": theme.green,
            "markersize": 6.5,
            "markerfacecolor": "none",
            "markeredgewidth": 1.7,
        },
    }
    panel.plot(x, y, linestyle="none", **styles[kind])


def draw_loss(panel: Axes, theme: Theme) -> None:
    panel.set(xlim=(0, 10), ylim=(10, 0))
    key = (
        ("attract", "attract: same class, other sample"),
        ("repel", "repel: another class"),
        ("same", "attract up to a margin: same sample"),
    )
    for row, (kind, text) in enumerate(key):
        draw_marks(panel, [0.4], [0.55 + 0.75 * row], kind, theme)
        panel.text(1.0, 0.55 + 0.75 * row, text, va="center", fontsize=9)
    panel.text(0.15, 2.95, "shade: similarity; empty: no pair", va="center", fontsize=9)
    terms = (
        ("intra", "thick frames: one modality", "attract repel"),
        ("inter", "thin frames: two modalities", "attract repel"),
        ("semi", "thin frames: one sample", "same"),
    )
    for row, (name, where, kinds) in enumerate(terms):
        y = 4.1 + 1.35 * row
        panel.add_patch(
            Rectangle((0.15, y - 0.5), 9.6, 1.1, facecolor="none", edgecolor=theme.faint)
        )
        panel.text(0.45, y + 0.05, name, va="center", fontsize=10, weight="bold")
        panel.text(2.2, y + 0.05, where, va="center", fontsize=9)
        for k, kind in enumerate(kinds.split()):
            draw_marks(panel, [8.6 + 0.7 * k], [y + 0.05], kind, theme)
    panel.annotate("", (4.9, 8.45), (4.9, 7.5), arrowprops={"arrowstyle": "->", "color": theme.ink})
    total = r"$L = \lambda_1 L_{intra} + \lambda_2 L_{inter} + \lambda_3 L_{semi}$"
    panel.text(4.9, 8.95, total, ha="center", va="center", fontsize=11)
    panel.text(
        4.9,
        9.65,
        "terms.total.backward()",
        ha="center",
        va="center",
        fontsize=9,
        family="DejaVu Sans Mono",
    )
