"""HyCon's encoder of one modality: MulT's, a convolution and a transformer."""

from einops import rearrange
from torch import Tensor, nn

from reference_models.layers.pooling import check_sequence
from reference_models.layers.transformer import Transformer


class SequenceEncoder(nn.Module):
    """MulT's encoder of one modality: a convolution to the common width, then a transformer.

    A bias-free convolution over time, then a :class:`Transformer`. With ``layers=0`` there is the
    convolution alone, for the states of a pretrained text encoder.

    Padding is set to zero before the convolution and masked in the attention, so more padding
    changes nothing on the real steps; the output on padded steps is undefined. A sample without a
    real step gives zeros. Padding is never read, not even where it is NaN.

    Args:
        in_features: feature dimension of the modality.
        hidden_size: d, the common width.
        kernel_size: odd width of the convolution, in steps.
        layers: self-attention layers.
        heads: attention heads, a divisor of ``hidden_size`` (not read when ``layers`` is 0).
        attention_dropout, relu_dropout, residual_dropout, embed_dropout: of the transformer.

    Raises:
        ValueError: an even ``kernel_size``, or ``heads`` that do not divide ``hidden_size``; in
            ``forward``, a sequence or mask of another shape.

    References: MulT, arXiv:1906.00295.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int = 50,
        *,
        kernel_size: int = 3,
        layers: int = 3,
        heads: int = 5,
        attention_dropout: float = 0.5,
        relu_dropout: float = 0.3,
        residual_dropout: float = 0.3,
        embed_dropout: float = 0.3,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        self.convolution = nn.Conv1d(
            in_features, hidden_size, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.transformer = None
        if layers > 0:
            self.transformer = Transformer(
                hidden_size,
                layers=layers,
                heads=heads,
                attention_dropout=attention_dropout,
                relu_dropout=relu_dropout,
                residual_dropout=residual_dropout,
                embed_dropout=embed_dropout,
            )

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Encode (B, T, in_features) with its mask (B, T), True = a real step, to (B, T, d)."""
        check_sequence(sequence, mask, self.convolution.in_channels)
        x = sequence.masked_fill(~rearrange(mask, "b t -> b t 1"), 0)
        x = self.convolution(rearrange(x, "b t d -> b d t"))  # (B, hidden_size, T)
        x = rearrange(x, "b d t -> b t d")
        if self.transformer is not None:
            return self.transformer(x, mask)
        return x.masked_fill(rearrange(~mask.any(1), "b -> b 1 1"), 0)
