"""MCL-MCF's vector of a sequence, and its two-layer fusion of such vectors.

The paper's one-dimensional convolutions have a kernel of 1 on sequences of length 1: here they are
the linear layers that they amount to.

References: MCL-MCF, sections 3.2 and 3.4.
"""

from collections.abc import Mapping

from einops import pack
from torch import Tensor, nn

from reference_models.layers.pooling import last_step


class LastState(nn.Module):
    """A recurrent network's state after the last real step, and a linear layer (eq 2).

    Padding follows the last real step and cannot reach its state, so nothing is packed.
    """

    def __init__(self, in_features: int, size: int):
        super().__init__()
        self.network = nn.LSTM(in_features, size, batch_first=True)
        self.layer = nn.Linear(size, size)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """(B, T, in_features), its mask (B, T) to (B, size)."""
        states, _ = self.network(steps)
        return self.layer(last_step(states, mask))


class ConvolutionFusion(nn.Module):
    """Two layers: one on all vectors, one on its result and each vector's deeper features.

    Args:
        sizes: width of each modality's vector, by name, in order.
        size: of the fused representation.
        map_size: width of the deeper features, if the caller has them; None: computed here.

    References: MCL-MCF eq 19-21.
    """

    def __init__(self, sizes: Mapping[str, int], size: int, map_size: int | None = None):
        super().__init__()
        self.shallow = nn.Linear(sum(sizes.values()), size)
        self.reads_maps = map_size is not None
        self.deep = None
        if map_size is None:
            self.deep = nn.ModuleDict(
                {name: nn.Linear(width, size) for name, width in sizes.items()}
            )
        deep = size if map_size is None else map_size
        self.last = nn.Linear(len(sizes) * deep + size, size)

    def forward(self, vectors: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> Tensor:
        """Vectors by modality, and perhaps their deeper features, to (B, size)."""
        together, _ = pack(list(vectors.values()), "b *")
        shallow = self.shallow(together).relu()  # (B, size)
        if self.deep is not None:
            maps = {name: layer(vectors[name]).relu() for name, layer in self.deep.items()}
        deep, _ = pack([*(maps[name] for name in vectors), shallow], "b *")
        return self.last(deep)


class LinearFusion(nn.Module):
    """One linear layer on all vectors, which the ablation has instead of the two layers."""

    reads_maps = False

    def __init__(self, sizes: Mapping[str, int], size: int):
        super().__init__()
        self.layer = nn.Linear(sum(sizes.values()), size)

    def forward(self, vectors: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> Tensor:
        """Vectors by modality to (B, size)."""
        together, _ = pack(list(vectors.values()), "b *")
        return self.layer(together)
