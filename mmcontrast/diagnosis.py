"""What is said about two sets of embeddings: numbers, as text and as a picture."""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 40


class Diagnosis(NamedTuple):
    """What :func:`diagnose` found: 0-d tensors, and histograms over ``edges``."""

    alignment: Tensor
    """Mean squared distance of partners: 0 where they coincide; 2 on average if they are random."""
    anchor_uniformity: Tensor
    """log of the mean of exp(-2 d^2) over the anchors' pairs: 0 if they are all alike, and about -4
    where many of them are spread evenly."""
    candidate_uniformity: Tensor
    """The same of the candidates."""
    gap: Tensor
    """Distance of the two centroids: the modality gap."""
    loss: Tensor
    """InfoNCE at the given temperature."""
    chance: Tensor
    """log C: the loss of embeddings that are all alike, or do not tell candidates apart."""
    accuracy: Tensor
    """Share of anchors to which no candidate is as similar as their partner."""
    anchor_rank: Tensor
    """Effective rank of the anchors: how many directions they fill, from 1 to D."""
    candidate_rank: Tensor
    """The same of the candidates."""
    effective_negatives: Tensor
    """Mean over the anchors of the perplexity of the softmax over their negatives: how many of
    them share the gradient, from 1 to C - 1."""
    false_negatives: Tensor | None
    """Share of the k most similar negatives that have the anchor's label; None without labels."""
    edges: Tensor
    """(41,) bounds of the similarity bins."""
    positives: Tensor
    """(40,) how many partners are that similar."""
    negatives: Tensor
    """(40,) how many negatives are that similar."""
    hardest: Tensor
    """(40,) of how many anchors the most similar negative is that similar."""

    def summary(self) -> str:
        """The numbers as text, a line each."""
        false = "no labels" if self.false_negatives is None else f"{self.false_negatives:.1%}"
        spread = f"{self.anchor_uniformity:.3f} and {self.candidate_uniformity:.3f}"
        rows = [
            ("alignment", f"{self.alignment:.3f}", "0: partners coincide"),
            ("uniformity", spread, "0: collapsed, -4: spread out"),
            ("modality gap", f"{self.gap:.3f}", "0: one cloud, 2: opposite poles"),
            ("loss", f"{self.loss:.3f}", f"{self.chance - self.loss:.3f} below chance"),
            ("accuracy", f"{self.accuracy:.1%}", "partners found"),
            (
                "effective rank",
                f"{self.anchor_rank:.1f} and {self.candidate_rank:.1f}",
                "1: a line",
            ),
            ("effective negatives", f"{self.effective_negatives:.1f}", "an anchor"),
            ("false negatives", false, "of the most similar negatives"),
        ]
        return "\n".join(f"{name:<20} {value:<18} {note}" for name, value, note in rows)

    def figure(self) -> "Figure":
        """The histograms, with the numbers beside them, as a matplotlib ``Figure``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        edges = self.edges.tolist()
        for name in ("negatives", "hardest", "positives"):
            counts = getattr(self, name)
            left.stairs((counts / counts.sum().clamp_min(1)).tolist(), edges, label=name, lw=1.5)
        left.set_xlabel("similarity")
        left.set_ylabel("share")
        left.legend()
        right.axis("off")
        right.text(0, 0.95, self.summary(), family="monospace", size=8, va="top")
        return figure
