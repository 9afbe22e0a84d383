r"""A synthetic corpus of known structure, in the MMSA layout: for demos, tests and teaching.

Numbers measured on it say nothing about real data, and are not compared with published ones.

Sample :math:`i` of a split is drawn as follows (independent normal variables; the seed fixes the
maps):

.. math::

    s_i &\sim \mathcal N(0, 1.5^2) \text{ clipped to } [-3, 3]       && \text{the score} \\
    k_i &\sim \mathcal U\{1, \dots, 8\}, \ z_i = e_{k_i} + 0.3\,\epsilon && \text{the topic} \\
    y_i &= \operatorname{round}\bigl(3\,(s_i + 0.2\,\epsilon)\bigr) / 3  && \text{the label} \\
    w_i &= s_i + 0.4\,\epsilon                                       && \text{what is said} \\
    h^m_i &= s_i + \sigma_m\,\epsilon, \ \sigma_a = 2,\ \sigma_v = 2.5 && \text{heard, seen} \\
    x^m_{it} &= c^m + d^m \odot \bigl(h^m_i g_{it} u^m + z_i A^m + p^m_i B^m + r^m_{it}\bigr)
        && \text{a frame}

* Score and topic are shared by all modalities: the sentence is about the topic's nouns, the frames
  carry its vector :math:`z`. The topic says nothing about the score.
* :math:`p^m_i` (4 numbers) is the modality's own, constant over a sample; the sentence's own part
  is its wording. :math:`r^m_{it}` is noise that changes slowly from frame to frame; :math:`g_{it}`
  rises and falls once over a sample, so that some frames are more informative than others.
* :math:`c^m, d^m` give every feature an offset and a scale, over two orders of magnitude.
* The sentence has 2 or 3 clauses. Each aims at :math:`w_i + 0.3\,\epsilon` and takes the nearest
  of 12 random phrases, whose value is the adjective's strength times its degree ("very",
  "a bit"), and times -0.6 after "not". Longer sentences come with longer sequences.
* One sample in twenty is a near-duplicate of another in its split: the same label, frames with a
  little noise added, and the same sentence with a newly drawn opening.
* One in twenty-five lacks the audio (all zeros), as many lack the vision, one in a hundred the text
  (an empty sentence); at most one modality is absent.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

TOPICS = {
    "acting": ("acting", "cast", "lead actor", "performance"),
    "story": ("story", "plot", "script", "ending"),
    "music": ("music", "soundtrack", "score", "theme song"),
    "camera": ("camera work", "lighting", "cinematography", "scenery"),
    "humor": ("humor", "comedy", "dialogue", "opening joke"),
    "action": ("action", "car chase", "stunt work", "final fight"),
    "romance": ("romance", "love story", "chemistry", "wedding scene"),
    "direction": ("direction", "pacing", "editing", "director"),
}
ADJECTIVES = {
    "terrible": -2.6,
    "horrible": -2.5,
    "awful": -2.3,
    "pathetic": -2.1,
    "boring": -1.7,
    "bad": -1.5,
    "annoying": -1.4,
    "weak": -1.2,
    "disappointing": -1.1,
    "dull": -1.0,
    "silly": -0.6,
    "predictable": -0.5,
    "ordinary": -0.1,
    "okay": 0.2,
    "decent": 0.6,
    "nice": 0.8,
    "clever": 1.0,
    "good": 1.2,
    "funny": 1.3,
    "charming": 1.5,
    "great": 1.8,
    "wonderful": 2.2,
    "amazing": 2.3,
    "brilliant": 2.5,
    "fantastic": 2.6,
}
# The first three also occur after "not".
DEGREES = {"": 1.0, "very": 1.25, "so": 1.2, "really": 1.2, "pretty": 0.85, "a bit": 0.6}
NEGATED = -0.6
CLAUSES = (
    "the {noun} was {phrase}",
    "i thought the {noun} was {phrase}",
    "i found the {noun} {phrase}",
    "to me the {noun} felt {phrase}",
)
OPENINGS = ("", "well", "honestly", "you know", "um", "okay so", "i mean", "like i said")
LINKS = ("and", "also", "and then", "plus")
# modality -> (features, fewest frames, most frames, deviation of what is heard or seen)
STREAMS = {"audio": (16, 6, 20, 2.0), "vision": (20, 8, 24, 2.5)}


def synthesize(
    path: str | Path,
    *,
    sizes: tuple[int, int, int] = (400, 100, 200),
    seed: int = 0,
    absent: float = 0.04,
    duplicates: float = 0.05,
) -> Path:
    """Write the corpus to a pickle that :func:`load_mmsa` reads; the same file for the same seed.

    Args:
        path: where to; an existing file is replaced, in one step.
        sizes: samples in train, valid and test.
        seed: of everything random.
        absent: share of samples without audio; as many lack vision, a quarter of them the text.
        duplicates: share of samples that nearly repeat another of their split.

    Raises:
        ValueError: a size below 1, a share outside [0, 0.4], or a name that ends in .safetensors.
    """
    if Path(path).suffix == ".safetensors":
        raise ValueError(
            f"path: expected a name for a pickle, such as corpus.pkl, got {Path(path).name!r}; "
            "'data convert' makes safetensors of it"
        )
    content = generate(sizes=sizes, seed=seed, absent=absent, duplicates=duplicates)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            pickle.dump(content, file, protocol=4)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def generate(
    *,
    sizes: tuple[int, int, int] = (400, 100, 200),
    seed: int = 0,
    absent: float = 0.04,
    duplicates: float = 0.05,
) -> dict[str, dict[str, Any]]:
    """The content of that file: ``{"train" | "valid" | "test": {column: array or list}}``."""
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"sizes: expected three numbers from 1 up, got {sizes!r}")
    for name, share in (("absent", absent), ("duplicates", duplicates)):
        if not 0 <= share <= 0.4:
            raise ValueError(f"{name}: expected a share in [0, 0.4], got {share!r}")
    random = np.random.default_rng(seed)
    topics = random.normal(size=(len(TOPICS), 3))
    maps = {m: _stream_maps(random, features) for m, (features, *_) in STREAMS.items()}
    return {
        name: _draw_split(random, name, size, topics, maps, absent, duplicates)
        for name, size in zip(("train", "valid", "test"), sizes, strict=True)
    }


def _stream_maps(random: np.random.Generator, features: int) -> dict[str, np.ndarray]:
    score = random.normal(size=features)
    scale = 10 ** random.uniform(-1, 1, size=features)
    return {
        "score": score / np.linalg.norm(score) * 2,
        "topic": random.normal(size=(3, features)) * 0.5,
        "own": random.normal(size=(4, features)) * 0.5,
        "scale": scale,
        "offset": scale * random.normal(size=features),
    }


def _draw_split(
    random: np.random.Generator,
    name: str,
    size: int,
    topics: np.ndarray,
    maps: dict[str, dict[str, np.ndarray]],
    absent: float,
    duplicates: float,
) -> dict[str, Any]:
    scores = np.clip(random.normal(0, 1.5, size), -3, 3)
    labels = np.clip(np.round(3 * (scores + random.normal(0, 0.2, size))) / 3, -3, 3)
    topic = random.integers(len(TOPICS), size=size)
    shared = topics[topic] + random.normal(0, 0.3, (size, 3))
    said = scores + random.normal(0, 0.4, size)
    bodies = [_sentence(random, w, k) for w, k in zip(said, topic, strict=True)]
    streams = {m: _stream(random, m, scores, shared, bodies, maps[m]) for m in STREAMS}
    # Originals are never copies themselves, so there are no chains of copies.
    copies = np.flatnonzero(random.random(size) < duplicates)
    originals = np.setdiff1d(np.arange(size), copies)
    for row in copies if len(originals) else ():
        source = random.choice(originals)
        labels[row], bodies[row] = labels[source], bodies[source]
        for modality, (frames, lengths) in streams.items():
            lengths[row] = length = lengths[source]
            jitter = random.normal(0, 0.05, frames[row, :length].shape) * maps[modality]["scale"]
            frames[row] = frames[source]
            frames[row, :length] += jitter
    sentences = [f"{OPENINGS[random.integers(len(OPENINGS))]} {body}".strip() for body in bodies]
    lot = random.random(size)
    for order, (frames, lengths) in enumerate(streams.values()):
        gone = (absent * order <= lot) & (lot < absent * (order + 1))
        frames[gone] = 0
        lengths[gone] = 1  # as public files do: lengths start at 1
    for row in np.flatnonzero(lot >= 1 - absent / 4):
        sentences[row] = ""
    return {
        "raw_text": sentences,
        "id": [f"synthetic_{name}_{row // 10}$_${row % 10}" for row in range(size)],
        **{m: frames.astype(np.float32) for m, (frames, _) in streams.items()},
        **{f"{m}_lengths": lengths.tolist() for m, (_, lengths) in streams.items()},
        "annotations": [("Negative", "Neutral", "Positive")[int(np.sign(y)) + 1] for y in labels],
        "regression_labels": labels.astype(np.float32),
    }


def _sentence(random: np.random.Generator, value: float, topic: int) -> str:
    nouns = list(TOPICS.values())[topic]
    clauses: list[str] = []
    for _ in range(random.integers(2, 4)):
        phrase = _phrase(random, value + random.normal(0, 0.3))
        clause = CLAUSES[random.integers(len(CLAUSES))]
        if clauses:
            clauses.append(LINKS[random.integers(len(LINKS))])
        clauses.append(clause.format(noun=nouns[random.integers(len(nouns))], phrase=phrase))
    return " ".join(clauses)


def _phrase(random: np.random.Generator, target: float) -> str:
    best, nearest = "", np.inf
    for _ in range(12):
        adjective = list(ADJECTIVES)[random.integers(len(ADJECTIVES))]
        degrees = list(DEGREES)
        negated = random.random() < 0.1
        degree = degrees[random.integers(3 if negated else len(degrees))]
        value = ADJECTIVES[adjective] * DEGREES[degree] * (NEGATED if negated else 1)
        words = ["not" if negated else "", degree, adjective]
        if abs(value - target) < nearest:
            best, nearest = " ".join(word for word in words if word), abs(value - target)
    return best


def _stream(
    random: np.random.Generator,
    modality: str,
    scores: np.ndarray,
    shared: np.ndarray,
    bodies: list[str],
    maps: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    features, fewest, most, deviation = STREAMS[modality]
    size = len(scores)
    words = np.array([len(body.split()) for body in bodies])
    lengths = np.clip(words // 2 + random.integers(0, 10, size), fewest, most)
    heard = scores + random.normal(0, deviation, size)
    own = random.normal(size=(size, 4))
    frames = np.zeros((size, most, features))
    for row, length in enumerate(lengths):
        swell = 0.5 + np.sin(np.pi * (np.arange(length) + 0.5) / length)
        noise = random.normal(size=(length, features))
        for step in range(1, length):
            noise[step] = 0.6 * noise[step - 1] + 0.8 * noise[step]
        frames[row, :length] = maps["offset"] + maps["scale"] * (
            heard[row] * swell[:, None] * maps["score"]
            + shared[row] @ maps["topic"]
            + own[row] @ maps["own"]
            + noise
        )
    return frames, lengths
