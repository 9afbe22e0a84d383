"""Small files of every layout, for the tests of the data layer."""

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"train": 6, "valid": 2, "test": 3}


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def frames(
    random: np.random.Generator, lengths: list[int], total: int, features: int, side: str = "end"
) -> np.ndarray:
    """(N, total, features) float32 without a zero in its real frames, padded on that side."""
    out = np.zeros((len(lengths), total, features), dtype=np.float32)
    for row, length in enumerate(lengths):
        real = random.uniform(0.5, 1.5, (length, features)) * random.choice([-1, 1])
        out[row, slice(0, length) if side == "end" else slice(total - length, total)] = real
    return out


def split(random: np.random.Generator, size: int) -> dict[str, Any]:
    """Every column of the layout: text of 5 tokens, 7 steps of audio, 4 of vision."""
    words = [int(random.integers(1, 4)) for _ in range(size)]
    audio = [int(random.integers(1, 8)) for _ in range(size)]
    vision = [int(random.integers(1, 5)) for _ in range(size)]
    tokens = np.zeros((size, 3, 5), dtype=np.float32)
    for row, count in enumerate(words):
        tokens[row, 0, : count + 2] = [101, *random.integers(1000, 2000, count), 102]
        tokens[row, 1, : count + 2] = 1
    return {
        "raw_text": [" ".join(["word"] * count) for count in words],
        "id": [f"video$_${row}" for row in range(size)],
        "text": frames(random, [count + 2 for count in words], 5, 6),
        "text_bert": tokens,
        "audio": frames(random, audio, 7, 3),
        "vision": frames(random, vision, 4, 2),
        "audio_lengths": audio,
        "vision_lengths": np.array(vision),
        "annotations": ["Positive"] * size,
        "regression_labels": random.uniform(-3, 3, size).astype(np.float32),
    }


def content(seed: int = 0) -> dict[str, dict[str, Any]]:
    random = np.random.default_rng(seed)
    return {name: split(random, size) for name, size in SIZES.items()}


def sims_content(seed: int = 0) -> dict[str, dict[str, Any]]:
    """CH-SIMS: the same layout with scores in [-1, 1], and one for each modality."""
    data, random = content(seed), np.random.default_rng(seed)
    for columns in data.values():
        count = len(columns["id"])
        del columns["annotations"]
        for end in ("", "_T", "_A", "_V"):
            scores = (0.2 * random.integers(-5, 6, count)).round(1)
            columns[f"regression_labels{end}"] = scores.astype(np.float32)
    return data


def mult_content(
    seed: int = 0, *, ids: str = "clips", seven: bool = False
) -> dict[str, dict[str, Any]]:
    """MOSI ("clips": bytes, video_clip) or MOSEI ("videos": text) of MulT, padded in front."""
    random = np.random.default_rng(seed)
    data, place = {}, 0
    for name, size in SIZES.items():
        sequences = {
            m: frames(
                random, random.integers(1, total + 1, size).tolist(), total, features, "front"
            )
            for m, total, features in (("text", 5, 6), ("audio", 7, 3), ("vision", 4, 2))
        }
        columns = 7 if seven else 1
        scores = random.uniform(-3, 3, (size, 1, columns)).astype(np.float32)
        rows = range(place, place + size)
        names = [f"v_{row // 2}_{row % 2}" if ids == "clips" else f"w_{row // 2}" for row in rows]
        kind = "S" if ids == "clips" else "U"
        table = [[first, str(row), str(row + 1)] for first, row in zip(names, rows, strict=True)]
        data[name] = sequences | {"labels": scores, "id": np.array(table).astype(kind)}
        place += size
    return data


def write_transcripts(path: Path, data: dict[str, dict[str, Any]], **changes: Any) -> Path:
    """The label.csv of :func:`mult_content`, in its order; ``changes``: column -> function."""
    rows = []
    for columns in data.values():
        for (name, start, _), labels in zip(
            columns["id"].astype("U"), columns["labels"], strict=True
        ):
            video, _, clip = name.rpartition("_")
            if not name.startswith("v"):
                video, clip = name, start
            row = {"video_id": video, "clip_id": clip, "text": f'she said "{name}, {start}"'}
            rows.append(row | {"label": f"{labels.ravel()[0]:.2f}", "mode": "any"})
    for column, change in changes.items():
        rows = [row | {column: change(row[column])} for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def iemocap_content(seed: int = 0, *, likely: float = 0.3) -> dict[str, dict[str, Any]]:
    """IEMOCAP of MulT: four one-hot pairs, no names; column 1 means "there"."""
    random = np.random.default_rng(seed)
    data = mult_content(seed)
    for columns in data.values():
        del columns["id"]
        there = random.random((len(columns["labels"]), 4)) < likely
        columns["labels"] = np.stack([~there, there], axis=-1).astype(np.int64)
    return data


def mag_bert_content(seed: int = 0) -> dict[str, list[Any]]:
    """MOSI of MAG-BERT: samples of 1 to 6 words with a frame each."""
    random = np.random.default_rng(seed)
    data = {}
    for name, size in (("train", 6), ("dev", 2), ("test", 3)):
        data[name] = []
        for row in range(size):
            count = int(random.integers(1, 7))
            words = [f"word{place}" for place in range(count)]
            vision, audio = (random.normal(size=(count, features)) for features in (4, 3))
            label = random.uniform(-3, 3, (1, 1)).astype(np.float32)
            data[name].append(((words, vision, audio), label, f"{name}[{row}]"))
    return data


def ur_funny_content(seed: int = 0) -> dict[str, Any]:
    """UR-FUNNY V2: six files by name; every sample has a context of 1 or 2 sentences."""
    random = np.random.default_rng(seed)
    folds = {"train": [3, 1, 4, 15, 9, 2], "dev": [6, 5], "test": [35, 8, 97]}
    files: dict[str, Any] = {
        "data_folds": folds,
        "word_embedding_list": [row.tolist() for row in random.normal(size=(20, 5))],
        **{f"{kind}_sdk": {} for kind in ("language", "covarep_features", "openface_features")},
        "humor_label_sdk": {},
    }
    for key in (key for fold in folds.values() for key in fold):
        counts = random.integers(1, 6, random.integers(2, 4)).tolist()
        indexes = [random.integers(1, 20, count).tolist() for count in counts]
        sentences = [" ".join(f"w{index}" for index in part) for part in indexes]
        files["language_sdk"][key] = {
            "punchline_embedding_indexes": indexes[-1],
            "context_embedding_indexes": indexes[:-1],
            "punchline_sentence": sentences[-1],
            "context_sentences": sentences[:-1],
        }
        for kind, features in (("covarep", 3), ("openface", 4)):
            parts = [random.normal(size=(count, features)) for count in counts]
            files[f"{kind}_features_sdk"][key] = {
                "punchline_features": parts[-1],
                "context_features": [part.tolist() for part in parts[:-1]],
            }
        files["humor_label_sdk"][key] = int(random.integers(2))
    return files


def write_folder(path: Path, files: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    for name, values in files.items():
        write(path / f"{name}.pkl", values)
    return path


def write_every_layout(folder: Path) -> dict[str, Path]:
    """A file, or folder, of each layout, by its name."""
    return {
        "mmsa": write(folder / "mmsa.pkl", content()),
        "sims": write(folder / "sims.pkl", sims_content()),
        "mult": write(folder / "mult.pkl", mult_content()),
        "iemocap": write(folder / "iemocap.pkl", iemocap_content()),
        "mag-bert": write(folder / "mag_bert.pkl", mag_bert_content()),
        "ur-funny": write_folder(folder / "ur_funny", ur_funny_content()),
    }


def same_corpus(a: Any, b: Any) -> None:
    """Every field of every split is the same, to the last bit and type; which file is not asked."""
    assert (a.task, a.layout, a.dropped, a.notes) == (b.task, b.layout, b.dropped, b.notes)
    assert list(a.splits) == list(b.splits)
    for name, x in a.splits.items():
        y = b.splits[name]
        assert (x.name, x.ids, x.raw_text) == (y.name, y.ids, y.raw_text)
        for one, other in ((x.labels, y.labels), (x.token_ids, y.token_ids)):
            same_array(one, other)
        same_array(x.token_mask, y.token_mask)
        for group in ("features", "masks", "present", "unimodal_labels"):
            assert list(getattr(x, group)) == list(getattr(y, group))
            for modality, array in getattr(x, group).items():
                same_array(array, getattr(y, group)[modality])


def same_array(a: np.ndarray | None, b: np.ndarray | None) -> None:
    assert (a is None) == (b is None)
    if a is not None:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
