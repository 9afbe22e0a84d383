"""Text encoders: pretrained ones by name, a small one from scratch; reading token ids."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

GROUP = 8  # sentences that a text encoder reads at once on a CPU


def load_text_encoder(name_or_folder: str | Path) -> PreTrainedModel:
    """A pretrained text encoder, by a name on the hub or the folder that holds it.

    Anything that ``AutoModel`` takes and that returns a ``last_hidden_state``: BERT, XLNet, MiniLM.
    The pooler, which nothing here uses, is removed. Weights are loaded as float32, whatever dtype
    they are stored in.

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
        ValueError: there is no tokenizer, without which text cannot be used.
    """
    problem = (
        f"tokenizer: expected the vocabulary of the text encoder {str(name_or_folder)!r}, for text"
        f' needs one, got none ("scratch" exists: it makes its own)'
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{problem}: {error}") from error
    # Without the files, transformers may return a tokenizer with an empty vocabulary.
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


def read_text(
    encoder: PreTrainedModel, ids: Tensor, mask: Tensor, *, padding: bool = False
) -> Tensor:
    """The text encoder's last states (B, L, H), zero on padding.

    On a CPU, where padding costs as much as words do, the sentences are sorted by length and read
    in groups, each cut to its longest sentence: the states are the same.

    Args:
        encoder: returns ``last_hidden_state``.
        ids: (B, L) int64 token ids; those on padding are not read.
        mask: (B, L) bool, True = a real token; a sentence may have none.
        padding: keep the encoder's states on padding, instead of zeros.

    Raises:
        ValueError: ids of another shape or kind.
    """
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(
            f"features['text']: expected token ids of shape (B, L),"
            f" got {ids.dtype} of shape {tuple(ids.shape)}"
        )
    ids = ids.masked_fill(~mask, 0)
    # A softmax over no tokens is NaN: an empty text attends to its padding instead.
    attended = (mask | ~mask.any(1, keepdim=True)).long()
    if padding or ids.device.type != "cpu" or len(ids) <= GROUP:
        states = encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        return states if padding else states.masked_fill(~mask.unsqueeze(-1), 0)
    # One past the last real token of each sentence: positions from 1, 0 on padding.
    reach = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1).clamp(min=1)
    order = reach.argsort(stable=True)
    states = []
    for rows in order.split(GROUP):
        length = int(reach[rows].max())
        part = encoder(input_ids=ids[rows, :length], attention_mask=attended[rows, :length])
        states.append(F.pad(part.last_hidden_state, (0, 0, 0, ids.shape[1] - length)))
    return torch.cat(states)[order.argsort()].masked_fill(~mask.unsqueeze(-1), 0)
