"""MCL-MCF's contrast on three levels.

References: MCL-MCF, sections 3.2 and 3.3, Algorithm 1.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from mmcontrast import LearnableTemperature, MultilevelContrast
from reference_models.mcl_mcf.image_fusion import ConvolutionStack, outer_image

LEVELS = ("first", "second", "third")
View = tuple[str, ...]
"""The modalities that a view is made of."""


class Levels(nn.Module):
    """Three sums of contrastive losses, each between two views through a linear layer of its own.

    * first: every two modalities;
    * second: two fused modalities and the third one, and all three and one of them;
    * third: the images of every two modalities after convolutions of their own, two at a time.

    With two modalities there is one pair on the first level, and none on the others. The layers of
    a level whose weight is 0 do not exist.

    Args:
        sizes: width of each modality's vector, by name, in order.
        weights: a number for each of ``LEVELS``.
        hidden_size: of a fused view of the second level.
        tcf_size, channels: side of the images, and their convolutions'.
        contrast_size: what a pair of views is projected to.
        trimodal_partner: what all three modalities are compared with.
        temperature, symmetric, pair_design: as in :func:`mmcontrast.multilevel_contrast`.

    Attributes:
        weights: of ``LEVELS``; 0 where there is nothing to compare.
        views: pairs of views, by level of another weight than 0.

    References: MCL-MCF eq 3-18, Algorithm 1.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        weights: Mapping[str, float],
        *,
        hidden_size: int,
        tcf_size: int,
        channels: tuple[int, int, int],
        contrast_size: int,
        trimodal_partner: str,
        temperature: float | LearnableTemperature,
        symmetric: bool,
        pair_design: str,
    ):
        super().__init__()
        views = level_views(tuple(sizes), trimodal_partner)
        self.weights = {level: weights[level] if views[level] else 0.0 for level in LEVELS}
        self.views = {level: views[level] for level in LEVELS if self.weights[level] != 0}
        self.joins, self.stacks = nn.ModuleDict(), nn.ModuleDict()
        self.projections = nn.ModuleDict()
        for level, pairs in self.views.items():
            widths = {}
            for view in dict.fromkeys(view for pair in pairs for view in pair):
                if level == "third":
                    self.stacks["_".join(view)] = stack = ConvolutionStack(channels)
                    widths[view] = stack.features(tcf_size)
                elif len(view) > 1:
                    joined = sum(sizes[name] for name in view)
                    self.joins["_".join(view)] = nn.Linear(joined, hidden_size)
                    widths[view] = hidden_size
                else:
                    widths[view] = sizes[view[0]]
            self.projections[level] = nn.ModuleList(
                nn.ModuleList(nn.Linear(widths[view], contrast_size) for view in pair)
                for pair in pairs
            )
        self.loss = None
        if self.views:
            self.loss = MultilevelContrast(
                temperature=temperature,
                symmetric=symmetric,
                pair_design=pair_design,
                group="world",
            )

    def forward(
        self,
        vectors: Mapping[str, Tensor],
        maps: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        classes: Tensor,
    ) -> dict[str, Tensor]:
        """The terms of the levels that there are.

        Args:
            vectors: (B, D) by modality.
            maps: (B, tcf_size) by modality, what the third level's images are made of.
            present: (B,) bool by modality: a sample takes part where it has all of both views.
            classes: (B,) or (B, L), for the pair designs that read them.
        """
        if self.loss is None:
            return {}
        levels = {}
        for level, pairs in self.views.items():
            seen = self._seen(level, vectors, maps)
            levels[level] = [
                (
                    first(seen[x]),
                    second(seen[y]),
                    torch.stack([present[name] for name in {*x, *y}]).all(0),
                )
                for (x, y), (first, second) in zip(pairs, self.projections[level], strict=True)
            ]
        return dict(self.loss(levels, labels=classes))

    def _seen(
        self, level: str, vectors: Mapping[str, Tensor], maps: Mapping[str, Tensor]
    ) -> dict[View, Tensor]:
        """What the views of a level are, as rows."""
        seen = {}
        for view in dict.fromkeys(view for pair in self.views[level] for view in pair):
            key = "_".join(view)
            if level == "third":
                seen[view] = self.stacks[key](outer_image(*(maps[name] for name in view)))
            else:
                x = torch.cat([vectors[name] for name in view], dim=1)
                seen[view] = x if len(view) == 1 else self.joins[key](x)
        return seen


def level_views(names: View, trimodal_partner: str) -> dict[str, list[tuple[View, View]]]:
    """By level: which view is compared with which, for two modalities or three."""
    pairs = list(combinations(names, 2))
    first = [((one,), (other,)) for one, other in pairs]
    if len(names) < 3:
        return {"first": first, "second": [], "third": []}
    rest = [tuple(name for name in names if name not in pair) for pair in pairs]
    ta, tv, av = pairs
    return {
        "first": first,
        "second": [*zip(pairs, rest, strict=True), (names, (trimodal_partner,))],
        # Eq 18. Every two of the images share a modality, which is what its indices mn and mk say.
        "third": [(ta, tv), (tv, av), (ta, av)],
    }
