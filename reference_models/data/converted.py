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

from reference_models.data.corpus import FEATURES, KNOWN_FILES, Corpus, Split, file_sha256
from reference_models.data.pickles import DataError
from reference_models.data.promises import broken, check_array, check_promises, check_text
from reference_models.excerpt import excerpt, excerpts, printable

VERSION = 1
_ENTRY = "mmcontrast corpus"


def save_corpus(corpus: Corpus, path: str | Path) -> Path:
    """Write a corpus to a file that :func:`load_corpus` reads; an old one is replaced in one step.

    Raises:
        ValueError: a name that does not end in ``.safetensors``, or a corpus that is not as its
            docstring says.
        OSError: it cannot be written, as on a full disk.
    """
    path = Path(path)
    check_promises(corpus)
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
    except safetensors.SafetensorError as error:
        raise OSError(f"{path}: could not be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def is_converted(path: str | Path) -> bool:
    """Whether a file is safetensors: by its beginning (a header size, a JSON object) or its name.

    The name is for files that are truncated.
    """
    path = Path(path)
    if path.suffix == ".safetensors" or not path.is_file():  # a pipe would be waited for
        return path.suffix == ".safetensors"
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
            note = json.loads((file.metadata() or {})[_ENTRY])
            version, checksum, header = note["version"], note["checksum"], note["header"]
            if version == VERSION:  # another file may have types that numpy lacks, as bfloat16
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{path}: expected a whole safetensors file, got {printable(str(error))}; convert the "
            "data again"
        ) from None
    except Exception:  # no entry, no JSON, or nested too deep, or a type of no array
        raise DataError(
            f"{path}: expected a corpus, got another safetensors file; write one with data convert"
        ) from None
    if version != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION} of the format, got {excerpt(version)}; convert "
            "the data again, or take the program that wrote it"
        )
    if checksum != _checksum(header, tensors):
        raise DataError(
            f"{path}: expected the content that its checksum states, got another; convert the data "
            "again"
        )
    corpus = _corpus(str(path), header, tensors)
    check_promises(corpus)
    return corpus


def _corpus(path: str, header: Any, tensors: dict[str, np.ndarray]) -> Corpus:
    """The corpus of a header and tensors, which are used up."""
    fields = _fields(path, "header", header, task=str, layout=str, dropped=dict, notes=list)
    parts = _fields(path, "header", header, splits=dict)["splits"]
    origin = tuple(_fields(path, "header", header, origin=list)["origin"])
    check_text(path, "origin", *origin)
    splits = {
        name: _unpack(name, values, tensors, f"{path}, split {excerpt(name)}")
        for name, values in parts.items()
    }
    if tensors:
        broken(path, "tensors", "those of the splits", excerpts(tensors, most=3))
    known = KNOWN_FILES.get(origin[1]) if len(origin) == 2 else None
    fields["notes"] = tuple(fields["notes"])
    return Corpus(path, file_sha256(path), known, splits, origin=origin, **fields)


def _fields(where: str, name: str, values: Any, **kinds: type) -> dict[str, Any]:
    """The entries of those names and types in a JSON object."""
    if not isinstance(values, dict):
        broken(where, name, "a JSON object", excerpt(values))
    for field, kind in kinds.items():
        if not isinstance(values.get(field), kind):
            broken(where, field, f"a {kind.__name__}", excerpt(values.get(field)))
    return {field: values[field] for field in kinds}


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


def _unpack(name: str, values: Any, tensors: dict[str, np.ndarray], where: str) -> Split:
    fields = _fields(where, "header", values, ids=list, modalities=list, unimodal=list, steps=dict)
    kinds = (*FEATURES, "token_ids")
    for field in ("modalities", "unimodal", "steps"):
        if any(kind not in kinds for kind in fields[field]):
            broken(where, field, f"some of {', '.join(kinds)}", excerpts(fields[field]))
    count = len(fields["ids"])

    def take(part: str) -> np.ndarray:
        if f"{name}/{part}" not in tensors:
            broken(where, part, "a tensor of that name", "none")
        return tensors.pop(f"{name}/{part}")

    sequences, masks = {}, {}
    for kind, total in fields["steps"].items():
        frames, lengths = take(f"frames/{kind}"), take(f"lengths/{kind}")
        check_array(where, f"lengths/{kind}", lengths, np.int64, (count,))
        _check_steps(where, kind, total, lengths, frames)
        masks[kind] = np.arange(total) < lengths[:, None]
        sequences[kind] = np.zeros((count, total, *frames.shape[1:]), frames.dtype)
        sequences[kind][masks[kind]] = frames
    return Split(
        name=name,
        ids=fields["ids"],
        labels=take("labels"),
        raw_text=values.get("raw_text"),
        token_ids=sequences.pop("token_ids", None),
        token_mask=masks.pop("token_ids", None),
        features=sequences,
        masks=masks,
        present={m: take(f"present/{m}") for m in fields["modalities"]},
        unimodal_labels={m: take(f"unimodal/{m}") for m in fields["unimodal"]},
    )


def _check_steps(
    where: str, kind: str, total: Any, lengths: np.ndarray, frames: np.ndarray
) -> None:
    """Refuse numbers of steps that do not fit the lengths, or make far more of few frames."""
    if type(total) is not int or not 1 <= total < 2**31:
        broken(where, f"steps/{kind}", "a number from 1 up", excerpt(total))
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > total:
        broken(where, f"lengths/{kind}", f"0 to {total}", f"{lengths.min()} to {lengths.max()}")
    if frames.ndim != (1 if kind == "token_ids" else 2) or len(frames) != lengths.sum():
        broken(where, f"frames/{kind}", f"{lengths.sum()} frames", f"the shape {frames.shape}")
    size = len(lengths) * total * int(np.prod(frames.shape[1:]))
    if size > 1000 * frames.size + 2**29:  # of which most is padding
        broken(where, f"steps/{kind}", "most steps in use", f"padding to {size} numbers")
