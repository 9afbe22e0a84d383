"""The figures of several runs as sections of a page: side by side, on the same axes."""

from collections.abc import Mapping, Sequence
from html import escape

from reference_models.tables.figures import FigureKind, figures_of, terms_of
from reference_models.tables.finished import Run
from reference_models.tables.pages import grid
from reference_models.tables.rendering import common_limits, inline, render

TERMS = {
    "task": "the error of the prediction",
    "intra": "contrast of classes within a modality: samples of one class close, others apart",
    "inter": "contrast of classes between modalities",
    "semi": "the modalities of a sample, drawn to a set similarity",
    "unimodal": "contrast of the centre with each other modality, sample by sample",
    "bimodal": "contrast of the two fused pairs of modalities, sample by sample",
    "pair": "telling which samples were given another sample's modality",
    "first": "contrast of single modalities",
    "second": "contrast of fused pairs of modalities",
    "third": "contrast of all modalities, fused, with one",
    "distill": "distance from what teachers of one modality predict",
    "contrast": "contrast between the samples of a batch",
    "text": "triplet loss of text and the other modalities of a sample, against altered ones",
    "audio": "triplet loss of audio, likewise",
    "vision": "triplet loss of vision, likewise",
}
"""What the terms of the models are; one that is not here has its name alone."""


def sections(runs: Mapping[str, Run], *, curves_only: bool = False) -> list[str]:
    """The parts of a page with the figures of runs: a heading for each kind, a panel for each run.

    Panels of one kind have the same axes where these mean the same for all runs.

    Args:
        runs: name of a panel -> the run that it shows.
        curves_only: the loss terms alone.
    """
    kinds: dict[str, dict[str, FigureKind]] = {}
    left_out = []
    for name, run in runs.items():
        found, missing = figures_of(run)
        left_out += [f"{name}: {words}" for words in missing if not curves_only]
        for kind in found:
            if kind.curves or not curves_only:
                kinds.setdefault(kind.heading, {})[name] = kind
    parts = []
    for at, (heading, by_name) in enumerate(kinds.items()):
        first = next(iter(by_name.values()))
        pairs = [(kind.draw, runs[name]) for name, kind in by_name.items()]
        limits = common_limits(pairs) if first.same_axes else None
        drawings = [
            inline(
                render(kind.draw, runs[name], "svg", limits=limits),
                label=f"{heading}: {name}",
                caption=f"{name}, seed {runs[name].config['seed']}",
                prefix=f"f{at}-{number}-",
            )
            for number, (name, kind) in enumerate(by_name.items())
        ]
        terms = dict.fromkeys(t for name in by_name for t in terms_of(runs[name], heading))
        words = f"<p class=soft>{escape(first.words)}</p>"
        parts.append(f"<h2>{escape(heading)}</h2>{words}{_explained(list(terms))}{grid(drawings)}")
    if left_out:
        lines = "".join(f"<li>{escape(line)}</li>" for line in left_out)
        parts.append(f"<h2>Figures left out</h2><ul class=soft>{lines}</ul>")
    return parts


def _explained(terms: Sequence[str]) -> str:
    """A list of loss terms with a word on each."""
    if not terms:
        return ""
    items = (
        f"<dt>{escape(term)}</dt><dd>{escape(TERMS.get(term, 'a term of this model'))}</dd>"
        for term in terms
    )
    return f"<dl class=soft>{''.join(items)}</dl>"
