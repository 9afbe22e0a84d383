"""Sentences to token ids: the column that text is read from, and its tokenizer."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reference_models.data.corpus import Corpus, Split
from reference_models.data.pickles import DataError

# The columns that each kind of text encoder can read, best first.
_COLUMNS = {
    None: ("raw_text", "features", "text_bert"),
    "scratch": ("raw_text", "text_bert"),
    "features": ("features",),
}
_PRETRAINED = ("raw_text", "text_bert")
_NAMES = {"raw_text": "raw_text", "text_bert": "text_bert", "features": "text"}


def choose_text(corpus: Corpus, text_encoder: str | None) -> str | None:
    """The column that text is read from: "raw_text", "text_bert" or "features".

    Args:
        corpus: what :func:`load_corpus` returned.
        text_encoder: "scratch" and a pretrained encoder's name or folder read sentences, or else
            the stored token ids; "features" reads the precomputed column ``text``; None takes
            sentences, features or token ids, the first that is there.

    Returns:
        The column; None where ``text_encoder`` is None and the file has no text.

    Raises:
        DataError: the file has no column that the encoder can read.
    """
    train = corpus.splits["train"]
    there = {
        "raw_text": train.raw_text is not None,
        "text_bert": train.token_ids is not None,
        "features": "text" in train.features,
    }
    wanted = _COLUMNS.get(text_encoder, _PRETRAINED)
    for column in wanted:
        if there[column]:
            return column
    if text_encoder is None:
        return None
    found = [_NAMES[column] for column in there if there[column]] or ["no text column"]
    others = " and ".join((*found, *train.features.keys() - {"text"}))
    fix = "a file with sentences, or no text"
    if there["features"]:
        fix = "text_encoder='features'"
    elif there["raw_text"]:
        fix = "text_encoder='scratch' or the name of a pretrained encoder"
    raise DataError(
        f"{corpus.path}: expected the column {' or '.join(_NAMES[c] for c in wanted)} for the text "
        f"encoder {text_encoder!r}, got {others}; use {fix}"
    )


def encode_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int = 50
) -> list[list[int]]:
    """Token ids of each sentence, with the tokenizer's own special tokens and no padding.

    Args:
        texts: N sentences.
        tokenizer: any tokenizer of transformers.
        max_length: longer ones are cut to that many ids, special tokens included.

    Raises:
        ValueError: no tokenizer, or a ``max_length`` that leaves no room for a word.
    """
    if tokenizer is None:
        raise ValueError("tokenizer: expected a tokenizer of transformers, got None")
    special = tokenizer.num_special_tokens_to_add()
    if max_length <= special:
        raise ValueError(f"max_length: expected more than {special}, got {max_length}")
    if not texts:
        return []
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
    return [list(ids) for ids in encoded["input_ids"]]


def stored_token_ids(split: Split) -> list[list[int]]:
    """The token ids in the file (its column ``text_bert``), without padding.

    Raises:
        ValueError: the split has none.
    """
    if split.token_ids is None or split.token_mask is None:
        raise ValueError(f"split: expected a column text_bert in {split.name!r}, got none")
    lengths = split.token_mask.sum(axis=1)
    return [ids[:n].tolist() for ids, n in zip(split.token_ids, lengths, strict=True)]


def train_word_tokenizer(
    texts: Sequence[str], vocabulary_size: int = 10_000, *, minimum_count: int = 2
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on the words of ``texts``, for a text encoder trained from scratch.

    Lower case, accents stripped, punctuation apart; ``[PAD]`` is 0; every sentence stands between
    ``[CLS]`` and ``[SEP]``. ``len(tokenizer)`` is the size of its vocabulary.

    Args:
        texts: the training sentences.
        vocabulary_size: at most that many tokens, the four special ones included.
        minimum_count: rarer words become ``[UNK]``, so that training meets it too.

    Raises:
        ValueError: no words in ``texts``, or a vocabulary of special tokens alone.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if vocabulary_size <= len(special):
        raise ValueError(
            f"vocabulary_size: expected more than the {len(special)} special tokens, "
            f"got {vocabulary_size}"
        )
    if not any(text.strip() for text in texts):
        raise ValueError("texts: expected sentences, got no words")
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=vocabulary_size,
            min_frequency=minimum_count,
            special_tokens=special,
            show_progress=False,
        ),
    )
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, words.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
