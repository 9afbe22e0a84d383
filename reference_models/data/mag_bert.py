"""MAG-BERT's files: words, and for each word a frame of vision and of audio.

A pickle of ``{"train" | "dev" | "test": [((words, visual, acoustic), label, segment), ...]}``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import columns as clean
from reference_models.data import wording
from reference_models.data.corpus import KNOWN_FILES, Corpus, Split, check_agreement, splits_of
from reference_models.data.pickles import DataError

_STREAMS = {"audio": 2, "vision": 1}  # positions in a sample's streams


def mag_bert_corpus(
    content: Any, path: str | Path, sha256: str, *, max_steps: int = 50, nan: str
) -> Corpus:
    """MOSI or MOSEI, aligned to words.

    The words become ``raw_text``. MAG-BERT repeats a word's frame for each of its sub-words; here
    there is one frame for each word, independent of the tokenizer.

    Args:
        content: of the pickle.
        path: for messages.
        sha256: of the file.
        max_steps: longer sequences are cut at the end.
        nan: "zero" or "raise".

    Raises:
        DataError: a sample of another form, or with fewer frames than words.
    """
    splits = {}
    for name, samples in splits_of(content, path, list).items():
        where = f"{path}, split {name!r}"
        rows = [
            _parse_sample(sample, f"{where}, sample {row}") for row, sample in enumerate(samples)
        ]
        labels = clean.scores([row["label"] for row in rows], f"{where}, labels", (-3.0, 3.0))
        features, masks = {}, {}
        for modality in _STREAMS:
            here = f"{where}, {modality}"
            sequences = [row[modality][:max_steps] for row in rows]
            features[modality], masks[modality] = clean.padded(sequences, here, nan)
        sentences = [row["text"] for row in rows]
        present = {
            "text": np.array([bool(sentence.strip()) for sentence in sentences]),
            **{modality: mask.any(axis=1) for modality, mask in masks.items()},
        }
        ids = wording.distinct([row["id"] for row in rows])
        splits[name] = Split(name, ids, labels, sentences, None, None, features, masks, present)
    check_agreement(splits, path)
    return Corpus(str(path), sha256, KNOWN_FILES.get(sha256), splits, "sentiment", "mag-bert")


def _parse_sample(sample: Any, where: str) -> dict[str, Any]:
    try:
        streams, label, segment = sample
        words = streams[0]
        words = [wording.text_of(word, where) for word in words]
        if len(streams) != 3 or isinstance(streams[0], str):
            raise ValueError
    except (TypeError, ValueError, LookupError):
        raise DataError(
            f"{where}: expected ((words, visual, acoustic), label, segment), got "
            f"{_form(sample)}; save it in the layout of MAG-BERT"
        ) from None
    score = clean.numbers(label, f"{where}, label").reshape(-1)
    if len(score) not in (1, 7):  # 7: MOSEI's sentiment and six emotions
        raise DataError(f"{where}, label: expected one score, got {len(score)}; give one")
    found = {"text": " ".join(words), "label": score[0], "id": wording.text_of(segment, where)}
    for modality, place in _STREAMS.items():
        frames = clean.numbers(streams[place], f"{where}, {modality}")
        if frames.ndim == 0 or len(frames) < len(words):
            raise DataError(
                f"{where}, {modality}: expected a frame for each of {len(words)} words, got the "
                f"shape {frames.shape}; align them"
            )
        found[modality] = frames
    return found


def _form(value: Any, depth: int = 2) -> str:
    if isinstance(value, list | tuple) and depth:
        return f"({', '.join(_form(item, depth - 1) for item in value[:6])})"
    return type(value).__name__
