"""MCL-MCF's contrast on three levels.

References: MCL-MCF, sections 3.2 and 3.3, Algorithm 1.
"""

from collections.abc import Mapping
from itertools import combinations

from einops import pack, reduce
from torch import Tensor, nn

from mmcontrast import LearnableTemperature, MultilevelContrast
from reference_models.mcl_mcf.image_fusion import ConvolutionStack, outer_image

LEVELS = ("first", "second", "third")
View = tuple[str, ...]
"""The modalities of a view."""


class Levels(nn.Module):
    """Three sums of contrastive losses between two views, each view through its own linear layer.

    * first: every two modalities;
    * second: two fused modalities and the third one; all three fused and one of them;
    * third: every two of the images of modality pairs, each image through its own convolutions.

    With two modalities there is one pair on the first level, and none on the others. The layers of
    a level of weight 0 do not exist.

    Args:
        sizes: width of each modality's vector, by name, in order.
        weights: a number for each of ``LEVELS``.
        hidden_size: of a fused view of the second level.
        tcf_size, channels: side of the images, and their convolutions'.
        contrast_size: what a pair of views is projected to.
        trimodal_partner: the modality that all three, fused, are compared with.
        temperature, symmetric, pair_design: as in :func:`mmcontrast.multilevel_contrast`.

    Attributes:
        weights: of ``LEVELS``; 0 where there is nothing to compare.
        views: pairs of views, by level, for levels of nonzero weight.

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
        """The terms of the levels with pairs of views.

        Args:
            vectors: (B, D) by modality.
            maps: (B, tcf_size) by modality, the factors of the third level's images.
            present: (B,) bool by modality: a sample counts if it has every modality of both views.
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
                    reduce([present[name] for name in {*x, *y}], "m b -> b", "all"),
                )
                for (x, y), (first, second) in zip(pairs, self.projections[level], strict=True)
            ]
        return dict(self.loss(levels, labels=classes))

    def _seen(
        self, level: str, vectors: Mapping[str, Tensor], maps: Mapping[str, Tensor]
    ) -> dict[View, Tensor]:
        """The views of a level, as rows (B, width)."""
        seen = {}
        for view in dict.fromkeys(view for pair in self.views[level] for view in pair):
            key = "_".join(view)
            if level == "third":
                seen[view] = self.stacks[key](outer_image(*(maps[name] for name in view)))
            else:
                x, _ = pack([vectors[name] for name in view], "b *")
                seen[view] = x if len(view) == 1 else self.joins[key](x)
        return seen


def level_views(names: View, trimodal_partner: str) -> dict[str, list[tuple[View, View]]]:
    """The pairs of views that are compared, by level, for two modalities or three."""
    pairs = list(combinations(names, 2))
    first = [((one,), (other,)) for one, other in pairs]
    if len(names) < 3:
        return {"first": first, "second": [], "third": []}
    rest = [tuple(name for name in names if name not in pair) for pair in pairs]
    ta, tv, av = pairs
    return {
        "first": first,
        "second": [*zip(pairs, rest, strict=True), (names, (trimodal_partner,))],
        # Eq 18: its indices mn and mk are two images that share a modality, as every two do.
        "third": [(ta, tv), (tv, av), (ta, av)],
    }
