"""Sequences to sequences: MulT's attention block, alone and on a convolution."""

import math

import torch
from torch import Tensor, nn

from reference_models.layers.pooling import check_sequence

DROPOUTS = ("attention_dropout", "relu_dropout", "residual_dropout", "embed_dropout")
ORDERS = ("pre", "normed", "post")


class Transformer(nn.Module):
    """MulT's attention block: of a sequence on itself, or on another one, its context.

    The sequence times the root of its width, plus sinusoids on the real steps, through layers of
    attention and feed-forward, and a last layer norm. Batch first; padding is masked, and no step
    is hidden from another. A context is scaled and placed the same way, and passes the same layer
    norm.

    What padding holds, NaN included, is not read; what stands on a padded step of the output means
    nothing. A sample without one real step gives zeros; one whose context has none adds nothing
    from it.

    Args:
        size: features of a step.
        layers, heads: their numbers; ``heads`` divides ``size``.
        feedforward: inner width of the feed-forward; None: four times ``size``.
        attention_dropout: on the attention's weights.
        relu_dropout: inside the feed-forward.
        residual_dropout: on what each half of a layer adds.
        embed_dropout: after the positions.
        order: where the norms stand: "pre", ``x + f(norm(x))``, as in MulT; "normed",
            ``norm(x) + f(norm(x))``, as TeCaFN eq 2-3 and CorMulT eq 4-7 print it; "post",
            ``norm(x + f(x))``.
        positions: with the scaling and the sinusoids.

    Raises:
        ValueError: ``heads`` that do not divide ``size``, or another ``order``; in ``forward``, a
            sequence or mask of another shape.

    References: MulT, arXiv:1906.00295.
    """

    def __init__(
        self,
        size: int,
        *,
        layers: int,
        heads: int,
        feedforward: int | None = None,
        attention_dropout: float = 0.0,
        relu_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        embed_dropout: float = 0.0,
        order: str = "pre",
        positions: bool = True,
    ):
        super().__init__()
        if size % heads:
            raise ValueError(f"heads: expected a divisor of {size}, the width, got {heads}")
        if order not in ORDERS:
            raise ValueError(f"order: expected one of {ORDERS}, got {order!r}")
        self.size = size
        self.positions = positions
        self.dropout = nn.Dropout(embed_dropout)
        inner = 4 * size if feedforward is None else feedforward
        self.layers = nn.ModuleList(
            _Layer(size, heads, inner, attention_dropout, relu_dropout, residual_dropout, order)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, size) with its mask (B, T), and perhaps a context (B, S, size): (B, T, size)."""
        x = self._placed(x, mask)
        if context is not None:
            context = self._placed(context, context_mask)
        for layer in self.layers:
            x = layer(x, mask, context, context_mask)
        return self.norm(x).masked_fill(~mask.any(1)[:, None, None], 0)

    def _placed(self, x: Tensor, mask: Tensor) -> Tensor:
        check_sequence(x, mask, self.size)
        x = x.masked_fill(~mask.unsqueeze(-1), 0)
        if self.positions:
            waves = sinusoids(x.shape[1], self.size, device=x.device).to(x.dtype)
            x = math.sqrt(self.size) * x + waves * mask.unsqueeze(-1)
        return self.dropout(x)


class _Layer(nn.Module):
    """Attention, then a feed-forward, with a norm and a residual at each."""

    def __init__(
        self,
        size: int,
        heads: int,
        inner: int,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        order: str,
    ):
        super().__init__()
        self.order = order
        self.attention = nn.MultiheadAttention(size, heads, attention_dropout, batch_first=True)
        self.linear1 = nn.Linear(size, inner)
        self.linear2 = nn.Linear(inner, size)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.relu_dropout = nn.Dropout(relu_dropout)
        self.residual_dropout = nn.Dropout(residual_dropout)
        # The attention's in-projection starts this way by itself.
        for linear in (self.attention.out_proj, self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, mask: Tensor, context: Tensor | None, context_mask: Tensor | None
    ) -> Tensor:
        keys_mask = mask if context is None else context_mask

        def attend(query: Tensor) -> Tensor:
            if context is None:
                keys = query
            else:
                keys = context if self.order == "post" else self.norm1(context)
            filled = keys_mask.any(1, keepdim=True)
            # Without a key the softmax would be NaN: it sees the padding, and nothing comes of it.
            y, _ = self.attention(
                query, keys, keys, key_padding_mask=~keys_mask & filled, need_weights=False
            )
            return y.masked_fill(~filled.unsqueeze(-1), 0)

        def feed(y: Tensor) -> Tensor:
            return self.linear2(self.relu_dropout(self.linear1(y).relu()))

        return self._added(self._added(x, self.norm1, attend), self.norm2, feed)

    def _added(self, x, norm, part) -> Tensor:
        if self.order == "post":
            return norm(x + self.residual_dropout(part(x)))
        normed = norm(x)
        y = self.residual_dropout(part(normed))
        return (x if self.order == "pre" else normed) + y


class SequenceEncoder(nn.Module):
    """MulT's encoder of one modality: a convolution to the common width, then a transformer.

    A bias-free convolution over time, then a :class:`Transformer`; ``layers=0`` leaves the
    convolution alone, which is what stands on a pretrained text encoder.

    Padding is set to zero before the convolution and no step attends to it, so more padding changes
    nothing on the real steps; what stands on a padded step of the output means nothing. A sample
    without one real step gives zeros. Neither reads what the padding holds, NaN included.

    Args:
        in_features: feature dimension of the modality.
        hidden_size: d, the common width.
        kernel_size: odd width of the convolution, in steps.
        layers: self-attention layers.
        heads: attention heads, a divisor of ``hidden_size`` (read when there are layers).
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
        x = sequence.masked_fill(~mask.unsqueeze(-1), 0)
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        if self.transformer is not None:
            return self.transformer(x, mask)
        return x.masked_fill(~mask.any(1)[:, None, None], 0)


def sinusoids(steps: int, size: int, *, device: torch.device | None = None) -> Tensor:
    """(T, d) float32 sines, then cosines, of positions that start at 1, as in MulT's encoder."""
    half = size // 2
    rates = torch.arange(half, dtype=torch.float32, device=device)
    rates = torch.exp(rates * (-math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, dtype=torch.float32, device=device)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(waves, (0, size % 2))
