"""MulT's transformer: self-attention, or cross-attention from one sequence to another."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from reference_models.layers.pooling import check_sequence

DROPOUTS = ("attention_dropout", "relu_dropout", "residual_dropout", "embed_dropout")
ORDERS = ("pre", "normed", "post")


class Transformer(nn.Module):
    """MulT's transformer: self-attention, or cross-attention from a sequence to its context.

    The input is scaled by the square root of its width, gets sinusoidal positions on the real
    steps, and passes layers of attention and feed-forward and a final layer norm. Batch first;
    padding is masked; there is no causal mask. A context is scaled and positioned the same way, and
    passes the same layer norm as the queries.

    Padding is never read, not even where it is NaN; the output on padded steps is undefined. A
    sample without a real step gives zeros; where the context of a sample is empty, attention adds
    zero.

    Args:
        size: features of a step.
        layers, heads: how many; ``heads`` divides ``size``.
        feedforward: inner width of the feed-forward; None: four times ``size``.
        attention_dropout: on the attention weights.
        relu_dropout: inside the feed-forward.
        residual_dropout: on the output of each attention and feed-forward.
        embed_dropout: after the positions.
        order: of norm and residual: "pre", ``x + f(norm(x))``, as in MulT; "normed",
            ``norm(x) + f(norm(x))``, as printed in TeCaFN eq 2-3 and CorMulT eq 4-7; "post",
            ``norm(x + f(x))``.
        positions: whether to scale the input and add the sinusoids.

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
        absent = rearrange(~mask.any(1), "b -> b 1 1")
        return self.norm(x).masked_fill(absent, 0)

    def _placed(self, x: Tensor, mask: Tensor) -> Tensor:
        """Scaled, with positions on the real steps; zeros on padding."""
        check_sequence(x, mask, self.size)
        real = rearrange(mask, "b t -> b t 1")
        x = x.masked_fill(~real, 0)
        if self.positions:
            waves = sinusoids(x.shape[1], self.size, device=x.device).to(x.dtype)
            x = math.sqrt(self.size) * x + waves * real
        return self.dropout(x)


class _Layer(nn.Module):
    """Attention, then a feed-forward, each with a norm and a residual."""

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
        # The input projection of nn.MultiheadAttention is initialised like this already.
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
            # A softmax over no keys is NaN. Where the context is empty, let it attend to the
            # padding, which is finite, and discard the result.
            y, _ = self.attention(
                query, keys, keys, key_padding_mask=~keys_mask & filled, need_weights=False
            )
            return y.masked_fill(rearrange(~filled, "b 1 -> b 1 1"), 0)

        def feed(y: Tensor) -> Tensor:
            return self.linear2(self.relu_dropout(self.linear1(y).relu()))

        return self._added(self._added(x, self.norm1, attend), self.norm2, feed)

    def _added(self, x, norm, part) -> Tensor:
        """One half of the layer with its norm and residual, in the configured order."""
        if self.order == "post":
            return norm(x + self.residual_dropout(part(x)))
        normed = norm(x)
        y = self.residual_dropout(part(normed))
        return (x if self.order == "pre" else normed) + y


def sinusoids(steps: int, size: int, *, device: torch.device | None = None) -> Tensor:
    """(T, d) float32 sines, then cosines, of positions that start at 1, as in MulT's encoder."""
    half = size // 2
    rates = torch.arange(half, dtype=torch.float32, device=device)
    rates = torch.exp(rates * (-math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, dtype=torch.float32, device=device)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(waves, (0, size % 2))
