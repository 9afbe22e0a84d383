"""A corpus as one safetensors file: no pickle, a checksum, real frames only.

The file holds tensors and a header. Sequences are stored one after the other without padding, as
``<split>/frames/<modality>`` (frames, D), with the number of frames, steps and samples that restore
(N, T, D). Everything else (names, sentences, task, origin) is JSON in the header.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from reference_models.data.corpus import (
    KNOWN_FILES,
    Corpus,
    Split,
    file_sha256,
)
from reference_models.data.pickles import DataError

VERSION = 1
_ENTRY = "mmcontrast corpus"


def save_corpus(corpus: Corpus, path: str | Path) -> Path:
    """Write a corpus to a file that :func:`load_corpus` reads; an old one is replaced in one step.

    Raises:
        ValueError: a name that does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name that ends in .safetensors, got {path.name!r}")
    tensors: dict[str, np.ndarray] = {}
    header = {
        "task": corpus.task,
        "layout": corpus.layout,
        "dropped": corpus.dropped,
        "notes": list(corpus.notes),
        "origin": list(corpus.origin or (Path(corpus.path).name, corpus.sha256)),
        "splits": {name: _pack(split, tensors) for name, split in corpus.splits.items()},
    }
    note = {"version": VERSION, "checksum": _checksum(header, tensors), "header": header}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # A single entry: safetensors does not keep the order of several, and equal corpora shall
        # give equal files.
        safetensors.numpy.save_file(tensors, partial, {_ENTRY: json.dumps(note)})
        with partial.open("rb+") as file:  # on the disk before it is renamed
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def is_converted(path: str | Path) -> bool:
    """Whether a file is safetensors: by its beginning (a header size, a JSON object) or its name.

    The name is for files that are truncated.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def load_converted(path: str | Path) -> Corpus:
    """The corpus that :func:`save_corpus` wrote; nothing in the file can be executed.

    Raises:
        DataError: no such file, or one that is truncated, was changed, is of another version, or is
            another safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{path}: expected a whole safetensors file, got {error}; convert the data again"
        ) from None
    try:
        note = json.loads(metadata[_ENTRY])
        version, checksum, header = note["version"], note["checksum"], note["header"]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: expected a corpus, got another safetensors file; write one with data convert"
        ) from None
    if version != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION} of the format, got {version!r}; convert the data "
            "again, or take the program that wrote it"
        )
    if checksum != _checksum(header, tensors):
        raise DataError(
            f"{path}: expected the content that its checksum states, got another; convert the data "
            "again"
        )
    origin = tuple(header.pop("origin"))
    splits = {name: _unpack(name, values, tensors) for name, values in header.pop("splits").items()}
    notes = tuple(header.pop("notes"))
    known = KNOWN_FILES.get(origin[1])
    return Corpus(str(path), file_sha256(path), known, splits, notes=notes, origin=origin, **header)


def _checksum(header: Any, tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 over the header and every tensor with its name, type and shape."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _pack(split: Split, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The text fields of a split; its arrays are added to ``tensors``."""

    def put(name: str, array: np.ndarray) -> None:
        tensors[f"{split.name}/{name}"] = np.ascontiguousarray(array)

    put("labels", split.labels)
    for modality, here in split.present.items():
        put(f"present/{modality}", here)
    for modality, scores in split.unimodal_labels.items():
        put(f"unimodal/{modality}", scores)
    steps = {}
    sequences = dict(split.features)
    masks = dict(split.masks)
    if split.token_ids is not None:
        sequences["token_ids"], masks["token_ids"] = split.token_ids, split.token_mask
    for name, array in sequences.items():
        put(f"frames/{name}", array[masks[name]])
        put(f"lengths/{name}", masks[name].sum(axis=1, dtype=np.int64))
        steps[name] = array.shape[1]
    return {
        "ids": split.ids,
        "raw_text": split.raw_text,
        "modalities": list(split.present),
        "unimodal": list(split.unimodal_labels),
        "steps": steps,
    }


def _unpack(name: str, values: dict[str, Any], tensors: dict[str, np.ndarray]) -> Split:
    sequences, masks = {}, {}
    for kind, total in values["steps"].items():
        frames = tensors[f"{name}/frames/{kind}"]
        lengths = tensors[f"{name}/lengths/{kind}"]
        masks[kind] = np.arange(total) < lengths[:, None]
        sequences[kind] = np.zeros((len(lengths), total, *frames.shape[1:]), frames.dtype)
        sequences[kind][masks[kind]] = frames
    return Split(
        name=name,
        ids=values["ids"],
        labels=tensors[f"{name}/labels"],
        raw_text=values["raw_text"],
        token_ids=sequences.pop("token_ids", None),
        token_mask=masks.pop("token_ids", None),
        features=sequences,
        masks=masks,
        present={m: tensors[f"{name}/present/{m}"] for m in values["modalities"]},
        unimodal_labels={m: tensors[f"{name}/unimodal/{m}"] for m in values["unimodal"]},
    )
