"""The similarity matrix of a failing example, as a small picture and as a table."""

import html
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcontrast.rows import l2_normalize
from mmcontrast.testing.batch import Batch

MOST = 8
"""Rows or columns of the largest matrix that is drawn."""

SIDE, EDGE = 34, 26
"""Of a cell, and of the room for names, in pixels."""


@dataclass(frozen=True)
class Similarities:
    """Cosines of an example's rows: the names of both sides, and a row of numbers for each name."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cosines: tuple[tuple[float, ...], ...]

    def to_svg(self) -> str:
        """Blue for rows that point the same way, orange for opposite ones; the numbers in cells."""
        width = EDGE + SIDE * len(self.columns)
        height = EDGE + SIDE * len(self.rows)
        parts = [_text(name, EDGE + SIDE * (k + 0.5), 16) for k, name in enumerate(self.columns)]
        for i, (name, cosines) in enumerate(zip(self.rows, self.cosines, strict=True)):
            y = EDGE + SIDE * i
            parts.append(_text(name, EDGE / 2, y + SIDE / 2 + 4))
            for j, cosine in enumerate(cosines):
                x = EDGE + SIDE * j
                parts.append(
                    f'<rect x="{x + 1}" y="{y + 1}" width="{SIDE - 2}" height="{SIDE - 2}" rx="3" '
                    f'fill="{_colour(cosine)}"/>'
                )
                dark = "#fff" if abs(cosine) > 0.6 else "#222"
                parts.append(_text(_printed(cosine), x + SIDE / 2, y + SIDE / 2 + 4, dark))
        label = html.escape(f"Cosines of {', '.join(self.rows)} with {', '.join(self.columns)}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{label}" '
            f'font-family="system-ui, sans-serif" font-size="11">{"".join(parts)}</svg>'
        )

    def to_markdown(self) -> list[str]:
        """The lines of a table."""
        head = ["| cosine |", *(f" {name} |" for name in self.columns)]
        lines = ["".join(head), "|---" * (len(self.columns) + 1) + "|"]
        for name, cosines in zip(self.rows, self.cosines, strict=True):
            lines.append("".join([f"| {name} |", *(f" {_printed(x)} |" for x in cosines)]))
        return lines


def similarities(batch: Batch) -> Similarities | None:
    """Of an example's first rows with the others, or with themselves where there are no others.

    None where a picture would not help: one sample, many, no features, or no numbers.

    Example:
        >>> eye = torch.eye(2)
        >>> similarities(Batch("paired", {"a": eye, "b": eye[[0, 0]]})).cosines
        ((1.0, 1.0), (0.0, 0.0))
    """
    (first, left), *others = batch.rows.items()
    others = others or [(first, left)]
    if not 2 <= len(left) <= MOST // len(others) or not left.shape[1]:
        return None
    unit = l2_normalize(left.double())
    cosines = torch.cat([unit @ l2_normalize(x.double()).T for _, x in others], dim=1)
    if not cosines.isfinite().all():
        return None
    columns = [name for key, x in others for name in _names(key, x)]
    return Similarities(
        tuple(_names(first, left)), tuple(columns), tuple(map(tuple, cosines.tolist()))
    )


def _names(key: str, x: Tensor) -> list[str]:
    return [f"{key[:1]}{i + 1}" for i in range(len(x))]


def _printed(cosine: float) -> str:
    return f"{cosine + 0.0:.2f}".replace("-0.00", "0.00")


def _colour(cosine: float) -> str:
    """White at 0, blue at 1, orange at -1."""
    end = (33, 102, 172) if cosine > 0 else (178, 76, 20)
    share = min(abs(cosine), 1.0)
    return "#" + "".join(f"{round(247 + (x - 247) * share):02x}" for x in end)


def _text(said: str, x: float, y: float, fill: str = "currentColor") -> str:
    said = html.escape(said)
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{fill}">{said}</text>'
