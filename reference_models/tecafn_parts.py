"""TeCaFN's layers: one modality's encoder, attention from the centre, the predictor.

References: TeCaFN, Multimedia Systems 30(4):228, eq 2-5, 8-12 and 15-17.
"""

from torch import Tensor, nn

from reference_models.encoders import DROPOUTS, Transformer
from reference_models.heads import HEADS
from reference_models.inputs import Sequence
from reference_models.tecafn_config import TeCaFNConfig


class Encoder(nn.Module):
    """Eq 2-4 for audio and vision: a linear layer, self-attention, an LSTM where asked for."""

    # The code ends it in two linear layers with nothing between: all that follows begins with one.

    def __init__(self, in_features: int, config: TeCaFNConfig):
        super().__init__()
        size = config.hidden_size
        self.input = nn.Linear(in_features, size, bias=False)
        self.transformer = _transformer(config)
        self.lstm = nn.LSTM(size, size, batch_first=True) if config.lstm else None

    def forward(self, sequence: Sequence) -> Sequence:
        """Steps (B, T, in_features) with their mask to (B, T, d) with the same."""
        steps = self.transformer(self.input(sequence.steps), sequence.mask)
        if self.lstm is not None:
            steps, _ = self.lstm(steps.masked_fill(~sequence.mask.unsqueeze(-1), 0))
        return sequence._replace(steps=steps)


class Attention(nn.Module):
    """Eq 5 and 8-12: what the centre, the query, gets from another modality, (B, T, d)."""

    def __init__(self, center_size: int, other_size: int, config: TeCaFNConfig):
        super().__init__()
        size = config.hidden_size
        self.query, self.context = linears(center_size, other_size, size)
        self.transformer = _transformer(config)
        self.output = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def forward(self, center: Sequence, other: Sequence) -> Tensor:
        """(B, T, d) for the centre's (B, T, center_size) and the other's (B, S, other_size)."""
        query, context = self.query(center.steps), self.context(other.steps)
        return self.output(self.transformer(query, center.mask, context, other.mask))


def _transformer(config: TeCaFNConfig) -> Transformer:
    settings = {name: getattr(config, name) for name in ("layers", "heads", *DROPOUTS)}
    return Transformer(config.hidden_size, order=config.residual, **settings)


def linears(first: int, second: int, size: int) -> nn.ModuleList:
    """The paper's f1 and f2, or g1 and g2: a pointwise convolution is this on the mean of time."""
    return nn.ModuleList(nn.Linear(width, size, bias=False) for width in (first, second))


def predictor(size: int, config: TeCaFNConfig) -> nn.Sequential:
    """From what is fused to the head's outputs, by way of 128, 256 and 128."""
    p, outputs = config.head_dropout, HEADS[config.head]
    first = [nn.Dropout(p), nn.Linear(size, 128), nn.Tanh(), nn.Linear(128, 256), nn.Tanh()]
    last = [nn.Dropout(p), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, outputs)]
    return nn.Sequential(*first, *last)
