"""Small files of the MMSA layout, for the tests of the data layer."""

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
