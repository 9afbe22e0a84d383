"""Parts that the networks share: text encoders, the sequence encoder, and its last step."""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

LAST_STEPS = ("real", "index")


def load_text_encoder(name_or_folder: str | Path) -> PreTrainedModel:
    """A pretrained text encoder, by a name on the hub or the folder that holds it.

    Anything that ``AutoModel`` takes and that returns a ``last_hidden_state``: BERT, XLNet, MiniLM.
    The pooler, which nothing here uses, is taken off. Weights come as float32, whatever they are
    stored in.

    Raises:
        ValueError: there is no such model here, or the hub cannot be reached.
    """
    try:
        model = AutoModel.from_pretrained(name_or_folder, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"text_encoder: expected a model on the hub or a folder with its config.json and"
            f' weights, got {str(name_or_folder)!r}, which cannot be loaded ("scratch" exists: a'
            f" small encoder trained from the beginning, which needs no hub): {error}"
        ) from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a pretrained text encoder.

    Raises:
        ValueError: there is none: text cannot be used without its tokenizer.
    """
    problem = (
        f"tokenizer: expected the vocabulary of the text encoder {str(name_or_folder)!r}, for text"
        f' needs one, got none ("scratch" exists: it makes its own)'
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{problem}: {error}") from error
    # Where the files are absent, transformers may hand back a tokenizer with no words in it.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(problem)
    return tokenizer


def scratch_text_encoder(
    vocabulary_size: int,
    *,
    hidden_size: int = 128,
    layers: int = 2,
    heads: int = 4,
    max_length: int = 512,
) -> BertModel:
    """A small BERT with random weights and no pooler, for machines without a hub.

    Raises:
        ValueError: a size below 1, or ``heads`` that do not divide ``hidden_size``.
    """
    sizes = {
        "vocabulary_size": vocabulary_size,
        "hidden_size": hidden_size,
        "layers": layers,
        "heads": heads,
        "max_length": max_length,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected 1 or more, got {size}")
    if hidden_size % heads:
        raise ValueError(f"heads: expected a divisor of hidden_size={hidden_size}, got {heads}")
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_length,
    )
    return BertModel(config, add_pooling_layer=False)


class SequenceEncoder(nn.Module):
    """MulT's encoder of one modality: a convolution to the common width, then a transformer.

    A bias-free convolution over time, sinusoids on the real steps, pre-norm self-attention layers
    with a feed-forward four times as wide, and a last layer norm. ``layers=0`` leaves the
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
        attention_dropout: on the attention's weights.
        relu_dropout: inside the feed-forward.
        residual_dropout: on what each half of a layer adds.
        embed_dropout: after the positions.

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
        if layers > 0 and hidden_size % heads:
            raise ValueError(f"heads: expected a divisor of hidden_size={hidden_size}, got {heads}")
        self.convolution = nn.Conv1d(
            in_features, hidden_size, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.dropout = nn.Dropout(embed_dropout)
        self.layers = nn.ModuleList(
            _layer(hidden_size, heads, attention_dropout, relu_dropout, residual_dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden_size) if layers > 0 else nn.Identity()

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Encode (B, T, in_features) with its mask (B, T), True = a real step, to (B, T, d)."""
        size = self.convolution.in_channels
        if sequence.ndim != 3 or sequence.shape[1] == 0 or sequence.shape[2] != size:
            shape = tuple(sequence.shape)
            raise ValueError(f"sequence: expected shape (B, T, {size}), T >= 1, got {shape}")
        _check_mask(sequence, mask)
        x = sequence.masked_fill(~mask.unsqueeze(-1), 0)
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        filled = mask.any(1, keepdim=True)
        if len(self.layers) > 0:
            positions = sinusoids(x.shape[1], x.shape[2], device=x.device).to(x.dtype)
            x = math.sqrt(x.shape[2]) * x + positions * mask.unsqueeze(-1)
            x = self.dropout(x)
            # An empty sample attends to its padding: a softmax over nothing would be NaN.
            ignored = ~mask & filled
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=ignored)
            x = self.norm(x)
        return x.masked_fill(~filled.unsqueeze(-1), 0)


def sinusoids(steps: int, size: int, *, device: torch.device | None = None) -> Tensor:
    """(T, d) float32 sines, then cosines, of positions that start at 1, as in MulT's encoder."""
    half = size // 2
    rates = torch.arange(half, dtype=torch.float32, device=device)
    rates = torch.exp(rates * (-math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, dtype=torch.float32, device=device)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(waves, (0, size % 2))


def last_step(sequence: Tensor, mask: Tensor, *, last: str = "real") -> Tensor:
    """The last step of each sequence, (B, T, d) -> (B, d); zeros for a sample with no real step.

    Args:
        sequence: (B, T, d).
        mask: (B, T) bool, True = a real step.
        last: ``"real"`` takes the last real step of each sample; ``"index"`` the last position of
            the tensor, which for shorter samples is padding.

    Raises:
        ValueError: shapes that disagree, or another ``last``.
    """
    _check_mask(sequence, mask)
    if last == "real":
        steps = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
        chosen = sequence[torch.arange(len(mask), device=mask.device), steps.argmax(1)]
    elif last == "index":
        chosen = sequence[:, -1]
    else:
        raise ValueError(f"last: expected one of {LAST_STEPS}, got {last!r}")
    return chosen.masked_fill(~mask.any(1, keepdim=True), 0)


def _check_mask(sequence: Tensor, mask: Tensor) -> None:
    if mask.shape != sequence.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask: expected bool of shape {tuple(sequence.shape[:2])},"
            f" got {mask.dtype} of shape {tuple(mask.shape)}"
        )


def _layer(
    size: int, heads: int, attention_dropout: float, relu_dropout: float, residual_dropout: float
) -> nn.TransformerEncoderLayer:
    """One pre-norm layer with MulT's three dropouts and its initial weights."""
    layer = nn.TransformerEncoderLayer(
        size, heads, 4 * size, residual_dropout, norm_first=True, batch_first=True
    )
    layer.self_attn.dropout = attention_dropout
    layer.dropout.p = relu_dropout
    # The attention's in-projection starts this way by itself.
    for linear in (layer.self_attn.out_proj, layer.linear1, layer.linear2):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    return layer
