"""Text encoders: pretrained ones by name, a small one from scratch; reading token ids.

A folder or a repository may ask for Python code of its own ("auto_map" in its JSON files), and its
weights may be a pickle. None of that code ever runs here: ``trust_remote_code=False`` everywhere,
and pickles are read by torch's own reader of weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

LARGEST = 2**31
"""Bytes of states that are remembered of an encoder, two GiB; texts beyond are read every time."""

GROUP = 16
"""Sentences that a text encoder reads at once on a CPU: fewer have less padding, but each group
reads all weights."""


def load_text_encoder(name_or_folder: str | Path) -> PreTrainedModel:
    """A pretrained text encoder, by a name on the hub or the folder that holds it.

    Anything that ``AutoModel`` takes and that returns a ``last_hidden_state``: BERT, XLNet, MiniLM.
    The pooler, which nothing here uses, is removed. Weights are loaded as float32, whatever dtype
    they are stored in.

    Raises:
        ValueError: there is no such model here, or the hub cannot be reached; it is damaged, or
            needs code of its own.
    """
    try:
        model = AutoModel.from_pretrained(
            name_or_folder,
            config=_config_of(name_or_folder),
            dtype=torch.float32,
            trust_remote_code=False,
            weights_only=True,
        )
    except Exception as error:  # other people's files: their readers raise all kinds
        raise ValueError(
            f"text_encoder: expected a model on the hub or a folder with its config.json and"
            f' weights, got {str(name_or_folder)!r}, which cannot be loaded ("scratch" is a small'
            f" encoder trained from the beginning, which needs no hub; hf download NAME --local-dir"
            f" FOLDER, where there is a network, makes such a folder): {_why_not(error)}"
        ) from error
    return _without_pooler(model)


def rebuild_text_encoder(folder: Path) -> PreTrainedModel:
    """A text encoder of the architecture that a folder's ``config.json`` has; random weights.

    Raises:
        ValueError: no such folder, or no config of an encoder that needs no code of its own.
    """
    try:
        config = _config_of(folder)
        return _without_pooler(AutoModel.from_config(config, trust_remote_code=False))
    except Exception as error:
        raise ValueError(
            f"{folder}: expected the config.json of a text encoder, got none that can be built:"
            f" {_why_not(error)}"
        ) from error


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a pretrained text encoder.

    Raises:
        ValueError: there is no tokenizer, without which text cannot be used; it is damaged, or
            needs code of its own.
    """
    problem = (
        f"tokenizer: expected the vocabulary of the text encoder {str(name_or_folder)!r}, for text"
        f' needs one, got none ("scratch" exists: it makes its own)'
    )
    try:
        _check_files(name_or_folder)
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"{problem}: {_why_not(error)}") from error
    # Without the files, transformers may return a tokenizer with an empty vocabulary.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(problem)
    return tokenizer


def _config_of(name_or_folder: str | Path) -> PreTrainedConfig:
    """The config, once it is certain that nothing in it has code loaded."""
    _check_files(name_or_folder)
    config = AutoConfig.from_pretrained(name_or_folder, trust_remote_code=False)
    # A name with a slash is a kernel on the hub: compiled code, loaded without a question.
    attention = config._attn_implementation
    if attention is not None and "/" in str(attention):
        raise ValueError(f"its attention is {attention!r}, code on the hub, which never runs here")
    return config


def _check_files(name_or_folder: str | Path) -> None:
    """Refuse a folder with pipes or devices in it, on which a reader would wait for ever."""
    folder = Path(name_or_folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is neither a file nor a folder")


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _why_not(error: Exception) -> str:
    """What went wrong, on one line; transformers proposes to run the code that comes with it."""
    if "trust_remote_code" in str(error):
        return "it asks for Python code of its own, which never runs here"
    if "weights_only" in str(error):  # torch's own words tell how to run what is in it
        return "its weights are a pickle that is damaged or holds more than weights"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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


Memory = dict[PreTrainedModel, dict[tuple[bytes, ...], Tensor]]
_MEMORY: ContextVar[Memory | None] = ContextVar("states of texts that were read", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, a text encoder reads each text once, and :func:`read_text` returns it again.

    For evaluations of the same texts while weights and autocast stay as they are. States are those
    of the batch in which a text was first read, equal up to rounding. Where gradients are wanted,
    under a compiler, or with the encoder in training, it reads as ever. What is remembered is on
    the encoder's device.
    """
    token = _MEMORY.set({})
    try:
        yield
    finally:
        _MEMORY.reset(token)


def read_text(
    encoder: PreTrainedModel, ids: Tensor, mask: Tensor, *, padding: bool = False
) -> Tensor:
    """The text encoder's last states (B, L, H), zero on padding.

    On a CPU, where padding costs as much as words do, the sentences are sorted by length and read
    in groups, each cut to its longest sentence: the states are the same.

    Args:
        encoder: returns ``last_hidden_state``. Its states on words should not depend on padding,
            as BERT's and its relatives' do not; those of some do (ConvBERT, MobileBERT, FNet), and
            then on the batch, too.
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
    anew = torch.is_grad_enabled() or encoder.training or is_compiling()
    memory = None if anew else _MEMORY.get()
    if memory is None:
        return _states(encoder, ids, mask, padding)
    return _remembered(memory.setdefault(encoder, {}), encoder, ids, mask, padding)


def _remembered(
    memory: dict[tuple[bytes, ...], Tensor],
    encoder: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    padding: bool,
) -> Tensor:
    """The states of texts, of which those that are not in the memory are read now.

    A text's states do not depend on the others of its batch, but for rounding; those on padding
    depend on how much of it there is, and are zeros if they are not kept.
    """
    mask, width = mask.expand(ids.shape), ids.shape[1]
    lengths = [width] * len(ids) if padding else _reach(mask).tolist()
    keys = [
        (bytes([padding]), *(x[:n].tobytes() for x in row))
        for n, *row in zip(lengths, ids.cpu().numpy(), mask.cpu().numpy(), strict=True)
    ]
    known = {key: memory[key] for key in keys if key in memory}
    new = [row for row, key in enumerate(keys) if key not in known]
    if new:
        read = _states(encoder, ids[new], mask[new], padding)
        found = {keys[row]: x[: lengths[row]].clone() for row, x in zip(new, read, strict=True)}
        known |= found
        if sum(x.nbytes for x in (*memory.values(), *found.values())) <= LARGEST:
            memory |= found
    return torch.stack([F.pad(known[k], (0, 0, 0, width - len(known[k]))) for k in keys])


def _states(encoder: PreTrainedModel, ids: Tensor, mask: Tensor, padding: bool) -> Tensor:
    # A softmax over no tokens is NaN: an empty text attends to its padding instead.
    attended = (mask | ~mask.any(1, keepdim=True)).long()
    if padding or ids.device.type != "cpu" or len(ids) <= GROUP:
        states = encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        return states if padding else states.masked_fill(~mask.unsqueeze(-1), 0)
    reach = _reach(mask)
    order = reach.argsort(stable=True)
    states = []
    for rows in order.split(GROUP):
        length = int(reach[rows].max())
        part = encoder(input_ids=ids[rows, :length], attention_mask=attended[rows, :length])
        states.append(F.pad(part.last_hidden_state, (0, 0, 0, ids.shape[1] - length)))
    return torch.cat(states)[order.argsort()].masked_fill(~mask.unsqueeze(-1), 0)


def _reach(mask: Tensor) -> Tensor:
    """One past the last real token of each text, 1 at least: positions from 1, 0 on padding."""
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1).clamp(min=1)
