"""Load a data file of any known layout, which is recognised by the content."""

from pathlib import Path
from typing import Any

import numpy as np

from reference_models.data import mag_bert, mmsa, mult, ur_funny
from reference_models.data.converted import is_converted, load_converted
from reference_models.data.corpus import SPLITS, Corpus, file_sha256
from reference_models.data.pickles import DataError, load_pickle
from reference_models.excerpt import excerpts

LAYOUTS = {
    "mmsa": "a pickle of {split: {column: values}} with regression_labels",
    "mult": "a pickle of {split: {text, audio, vision, labels, id}}, as of MulT and MMIM",
    "iemocap": "the same with labels (N, 4, 2)",
    "mag-bert": "a pickle of {split: [((words, visual, acoustic), label, segment), ...]}",
    "ur-funny": "a folder with the six pickles of UR-FUNNY V2",
    "converted": "a file that 'data convert' wrote",
}
# The options that each layout reads, and their defaults.
OPTIONS = {
    "mmsa": ("label_range", "nan"),
    "mult": ("labels", "nan"),
    "iemocap": ("present_index", "nan"),
    "mag-bert": ("max_steps", "nan"),
    "ur-funny": ("context", "normalize", "max_steps", "nan"),
    "converted": (),
}
DEFAULTS = {
    "labels": None,
    "label_range": None,
    "nan": "zero",
    "present_index": 1,
    "max_steps": 50,
    "context": False,
    "normalize": False,
}


def load_corpus(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    layout: str | None = None,
    label_range: tuple[float, float] | None = None,
    nan: str = "zero",
    present_index: int = 1,
    max_steps: int = 50,
    context: bool = False,
    normalize: bool = False,
) -> Corpus:
    """Read a data file of any layout in ``LAYOUTS``.

    Args:
        path: the file; for UR-FUNNY the folder.
        labels: a csv with the sentences of a "mult" file: video_id, clip_id, text, label.
        layout: a key of ``LAYOUTS``; None: by what is in the file.
        label_range: "mmsa" only: lowest and highest legal score; None: the task's.
        nan: "zero" puts 0 for NaN and infinities in the features, "raise" refuses them.
        present_index: "iemocap" only: which of two columns means that the emotion is there.
        max_steps: "mag-bert" and "ur-funny": longer sequences are cut to so many words; MAG-BERT's
            at the end, as its code does, UR-FUNNY's at the start, before the punchline.
        context: "ur-funny" only: the sentences before the punchline, too.
        normalize: "ur-funny" only: audio and vision of every sample to mean 0 and deviation 1.

    Raises:
        DataError: a file that is in none of the layouts, or not whole; it says what was found.
        ValueError: an unknown layout, or an option that the file's layout does not read.
    """
    given = {
        "labels": labels,
        "label_range": label_range,
        "nan": nan,
        "present_index": present_index,
        "max_steps": max_steps,
        "context": context,
        "normalize": normalize,
    }
    if nan not in ("zero", "raise"):
        raise ValueError(f"nan: expected 'zero' or 'raise', got {nan!r}")
    if max_steps < 1:
        raise ValueError(f"max_steps: expected a number from 1 up, got {max_steps!r}")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    content = read(path)
    layout = layout or recognise(content, path)
    for name, value in given.items():
        if name not in OPTIONS[layout] and value != DEFAULTS[name]:
            raise ValueError(
                f"{name}: expected {DEFAULTS[name]!r} for {path}, whose layout {layout!r} does "
                f"not read it, got {value!r}"
            )
    return corpus_of(content, path, layout, {name: given[name] for name in OPTIONS[layout]})


def read(path: str | Path) -> Any:
    """The content at ``path``: of a pickle, of a folder's pickles by name, or a whole corpus."""
    path = Path(path)
    if path.exists() and not (path.is_dir() or path.is_file()):  # a pipe would be waited for
        raise DataError(f"{path}: expected a file, got a pipe or a device; give the path of a file")
    if path.is_dir():
        return ur_funny.read_folder(path)
    if is_converted(path):
        return load_converted(path)
    return load_pickle(path)


def recognise(content: Any, path: str | Path) -> str:
    """The layout of what :func:`read` returned.

    Raises:
        DataError: it has none of them.
    """
    if isinstance(content, Corpus):
        return "converted"
    if isinstance(content, ur_funny.Folder):
        return "ur-funny"
    found = f"a {type(content).__name__}"
    if isinstance(content, dict):
        for part in (content.get(name) for name in (*SPLITS, "dev")):
            if isinstance(part, list):
                return "mag-bert"
            if isinstance(part, dict) and mult.LABELS in part and mmsa.LABELS not in part:
                return "iemocap" if _shape(part[mult.LABELS])[1:] == (4, 2) else "mult"
            if isinstance(part, dict):
                return "mmsa"
        found = f"one with the keys {excerpts(content)}"
    known = "; ".join(f"{name}: {words}" for name, words in LAYOUTS.items())
    raise DataError(
        f"{path}: expected a dict with the splits {SPLITS}, got {found}; the layouts that can be "
        f"read are {known}"
    )


def _shape(values: Any) -> tuple[int, ...]:
    try:
        return np.shape(values)
    except (TypeError, ValueError):  # ragged lists
        return ()


def corpus_of(
    content: Any, path: str | Path, layout: str, options: dict[str, Any] | None = None
) -> Corpus:
    """The corpus of what :func:`read` returned; removes the splits from ``content``."""
    options = {name: DEFAULTS[name] for name in OPTIONS[layout]} if options is None else options
    expected = {"converted": Corpus, "ur-funny": ur_funny.Folder}.get(layout, dict)
    if not isinstance(content, expected):
        raise DataError(
            f"{path}: expected {LAYOUTS[layout]}, as layout={layout!r} asks for, got "
            f"a {type(content).__name__}; leave layout out to have the file looked at"
        )
    if layout == "converted":
        return content
    make = {
        "mmsa": mmsa.mmsa_corpus,
        "mult": mult.mult_corpus,
        "iemocap": mult.iemocap_corpus,
        "mag-bert": mag_bert.mag_bert_corpus,
        "ur-funny": ur_funny.ur_funny_corpus,
    }[layout]
    return make(content, path, file_sha256(path), **options)
