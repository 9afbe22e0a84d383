"""UR-FUNNY V2: a folder of six pickles, by sample and by word.

``data_folds`` says which sample is in which split; ``language_sdk`` has the sentences, and numbers
of words in ``word_embedding_list`` (GloVe); ``covarep_features_sdk`` and ``openface_features_sdk``
have a frame for each word; ``humor_label_sdk`` has 0 or 1. A sample is a punchline after a context
of some sentences.
"""

from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import columns as clean
from reference_models.data import wording
from reference_models.data.corpus import Corpus, Split, check_agreement, splits_of
from reference_models.data.pickles import DataError, load_pickle
from reference_models.excerpt import excerpt, printable

FILES = (
    "data_folds",
    "language_sdk",
    "covarep_features_sdk",
    "openface_features_sdk",
    "humor_label_sdk",
    "word_embedding_list",
)
_STREAMS = {"audio": "covarep_features_sdk", "vision": "openface_features_sdk"}


class Folder(dict[str, Any]):
    """The six pickles, by name."""


def read_folder(path: Path) -> Folder:
    """The content of the six pickles.

    Raises:
        DataError: the folder lacks one, or one is damaged.
    """
    missing = [f"{name}.pkl" for name in FILES if not (path / f"{name}.pkl").is_file()]
    if missing:
        there = sorted(file.name for file in path.iterdir())[:10]
        raise DataError(
            f"{path}: expected a file, or a folder with the six pickles of UR-FUNNY V2, got a "
            f"folder with {', '.join(there) or 'nothing'}; add {', '.join(missing)}"
        )
    return Folder({name: load_pickle(path / f"{name}.pkl") for name in FILES})


def ur_funny_corpus(
    content: Folder,
    path: str | Path,
    sha256: str,
    *,
    context: bool = False,
    normalize: bool = False,
    max_steps: int = 50,
    nan: str,
) -> Corpus:
    """The samples of the three folds; words, sound and faces have one step for each word.

    Samples whose numbers of words and frames differ are left out and counted, as TeCaFN does.

    Args:
        content: of :func:`read_folder`.
        path: for messages.
        sha256: of the folder.
        context: the sentences before the punchline, too; all that is said is one sequence then.
        normalize: audio and vision of every sample to mean 0 and deviation 1, as TeCaFN does.
        max_steps: longer sequences are cut at their start: the punchline comes last.
        nan: "zero" or "raise".

    Raises:
        DataError: a sample that a file lacks, or whose entries have another form.
    """
    vectors = clean.numbers(content["word_embedding_list"], f"{path}, word_embedding_list")
    if vectors.ndim != 2 or not vectors.size:
        raise DataError(
            f"{path}, word_embedding_list: expected a vector for each word, got {vectors.shape}"
        )
    folds = content["data_folds"]
    if not isinstance(folds, dict):
        raise DataError(f"{path}, data_folds: expected a dict, got {type(folds).__name__}")
    splits, dropped = {}, {}
    for name, fold in splits_of(folds, f"{path}, data_folds", list).items():
        where = f"{path}, split {name!r}"
        read = [
            _collect_sample(content, key, context, f"{where}, sample {excerpt(key)}")
            for key in fold
        ]
        rows = [row for row in read if row is not None]
        dropped[name] = len(read) - len(rows)
        if not rows:
            raise DataError(f"{where}: expected samples, got {dropped[name]} whose counts differ")
        features, masks = {}, {}
        said = [vectors[row["indexes"][-max_steps:].astype(np.int64)] for row in rows]
        here = f"{where}, word_embedding_list"
        features["text"], masks["text"] = clean.padded(said, here, nan)
        for modality in _STREAMS:
            here = f"{where}, {modality}"
            sequences = [row[modality][-max_steps:] for row in rows]
            features[modality], masks[modality] = clean.padded(sequences, here, nan)
            if normalize:
                clean.standardize_rows(features[modality], masks[modality])
        sentences = [row["sentence"] for row in rows]
        present = {
            "text": np.array([bool(sentence.strip()) for sentence in sentences]),
            **{modality: masks[modality].any(axis=1) for modality in _STREAMS},
        }
        ids = wording.distinct([row["id"] for row in rows])
        labels = np.array([row["label"] for row in rows], dtype=np.int64)
        splits[name] = Split(name, ids, labels, sentences, None, None, features, masks, present)
    check_agreement(splits, path)
    notes = [
        f"{count} samples of {name} are left out: their words, sound and faces differ in number"
        for name, count in dropped.items()
        if count
    ]
    return Corpus(
        str(path), sha256, None, splits, "humor", "ur-funny", dropped=dropped, notes=tuple(notes)
    )


def _collect_sample(content: Folder, key: Any, context: bool, where: str) -> dict[str, Any] | None:
    """The entries of one sample in all files; None if its sequences differ in length."""
    try:
        language = content["language_sdk"][key]
        label = content["humor_label_sdk"][key]
        words = _sentences(language, "embedding_indexes", context)
        streams = {m: _sentences(content[f][key], "features", context) for m, f in _STREAMS.items()}
        indexes = [index for part in words for index in part]
        said = language.get("punchline_sentence", language.get("punchline_features"))
        spoken = [*(language["context_sentences"] if context else ()), said]
        if any(len(x) != len(words) or _counts(x) != _counts(words) for x in streams.values()):
            return None
    except (AttributeError, LookupError, TypeError) as error:
        raise DataError(
            f"{where}: expected its entries as in UR-FUNNY V2, got {type(error).__name__}: "
            f"{printable(str(error), 80)}; download the six files again"
        ) from None
    answer = clean.numbers(label, f"{where}, humor_label_sdk").reshape(-1)
    if isinstance(label, bool | str | bytes) or answer.tolist() not in ([0], [1]):
        raise DataError(f"{where}, humor_label_sdk: expected 0 or 1, got {excerpt(label)}; mend it")
    indexes = clean.numbers(indexes, where, dtype=np.float64)
    total = len(content["word_embedding_list"])
    legal = (indexes >= 0) & (indexes < total) & (indexes == np.round(indexes))
    if indexes.ndim != 1 or not legal.all():
        raise DataError(
            f"{where}: expected numbers of {total} words, got others; download "
            "word_embedding_list.pkl and language_sdk.pkl of one version"
        )
    found = {
        "id": wording.text_of(key, where),
        "label": int(answer[0]),
        "sentence": " ".join(_words(part, where) for part in spoken),
        "indexes": indexes,
    }
    for modality, parts in streams.items():
        arrays = [clean.numbers(part, f"{where}, {modality}") for part in parts if len(part)]
        if any(x.ndim != 2 for x in arrays) or len({x.shape[1] for x in arrays}) > 1:
            raise DataError(
                f"{where}, {modality}: expected one frame (D,) a word, got the shapes "
                f"{', '.join(str(x.shape) for x in arrays[:3])}; download the file again"
            )
        found[modality] = np.concatenate(arrays) if arrays else np.zeros((0, 0))
    # Some files are padded: word 0 with zero sound and zero face is padding.
    real = (indexes != 0) | np.any([found[m].any(axis=1) for m in _STREAMS], axis=0)
    return found | {name: found[name][real] for name in ("indexes", *_STREAMS)}


def _sentences(entry: dict[str, Any], what: str, context: bool) -> list[Any]:
    return [*(entry[f"context_{what}"] if context else ()), entry[f"punchline_{what}"]]


def _counts(sentences: list[Any]) -> list[int]:
    return [len(sentence) for sentence in sentences]


def _words(sentence: Any, where: str) -> str:
    """A sentence, which may be stored as a list of words."""
    sentence = wording.decoded(sentence)
    if isinstance(sentence, np.ndarray):
        sentence = sentence.tolist()
    if isinstance(sentence, list | tuple) and all(isinstance(w, str | bytes) for w in sentence):
        return " ".join(wording.decoded(word) for word in sentence)
    if not isinstance(sentence, str):
        raise DataError(
            f"{where}: expected punchline_sentence, or words in punchline_features, got "
            f"{type(sentence).__name__}; download language_sdk.pkl again"
        )
    return str(sentence)
