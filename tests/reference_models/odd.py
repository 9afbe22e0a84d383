"""Contents of data files that are well-formed pickles, with values where others are expected."""

from typing import Any

import numpy as np

from tests.reference_models.files import (
    content,
    iemocap_content,
    mag_bert_content,
    mult_content,
    sims_content,
    ur_funny_content,
)

MAKERS = {
    "mmsa": content,
    "sims": sims_content,
    "mult": mult_content,
    "iemocap": iemocap_content,
    "mag-bert": mag_bert_content,
    "ur-funny": ur_funny_content,
}


def laughs() -> list[Any]:
    found = ["lol"]
    for _ in range(6):
        found = [found] * 9
    return found


ODD = [
    *(None, True, 0, -1, 3, 2**70, 10**6, 1e19, 1e300, float("nan"), float("inf"), -0.5),
    *("", "x", "a\udc80", b"", b"\xff", "x" * 10**5, "\x1b[2J"),
    *([], [[]], [None], [1, [2]], ["a", None], [[], [1.0]], (), (1,), {}, {"x": 1}, {1: {}}, {3}),
    *(np.zeros(0), np.zeros((2, 0)), np.zeros((0, 3)), np.zeros((6, 3, 0)), np.zeros((6, 0, 3))),
    *(np.array("x"), np.array(5), np.zeros((10**5, 0)), np.full((6, 3, 5), 1e12), np.float16(1)),
    *(np.array([None, [1]], dtype=object), np.array(["a", "b"]), np.array([b"\xff"] * 6)),
    *(np.full((6, 7, 3), np.inf), np.full((6, 7, 3), 1e-320), np.ones((6, 7, 3), np.longdouble)),
]


def changed(value: Any, random: np.random.Generator) -> Any:
    """Something else in the place of a value."""
    kind = random.integers(6)
    if isinstance(value, np.ndarray) and kind < 4 and value.size:
        if kind == 0:
            return value.reshape(random.permutation(value.shape))
        if kind == 1:
            return value[: random.integers(len(value) + 1)] if value.ndim else value
        if kind == 2 and value.dtype.kind in "fiu":
            with np.errstate(all="ignore"):
                return value.astype(["S2", "U2", "O", "i1", "u8", "f2", "?"][random.integers(7)])
        value = value.copy()
        if value.dtype.kind == "f":
            value.flat[random.integers(value.size)] = [1e30, np.nan, -np.inf, 0.5][kind]
        return value
    if isinstance(value, list | tuple) and kind < 2:
        return type(value)(list(value)[:-1]) if kind else [*value, *value]
    if kind == 2:
        return laughs()
    return ODD[random.integers(len(ODD))]


def spoiled(value: Any, random: np.random.Generator, deep: float = 0.8) -> Any:
    """The value with one part at some depth changed, left out, or put under another key."""
    if isinstance(value, dict) and value and random.random() < deep:
        keys = list(value)
        key = keys[random.integers(len(keys))]
        kind = random.integers(10)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {[str(key), 7, ("a", 1), b"k"][random.integers(4)] if k == key else k: v
                    for k, v in value.items()}  # fmt: skip
        if kind == 2:
            return value | {key: value[keys[random.integers(len(keys))]]}
        return value | {key: spoiled(value[key], random, deep)}
    if isinstance(value, list | tuple) and value and random.random() < deep:
        place = random.integers(len(value))
        parts = [spoiled(x, random, deep) if i == place else x for i, x in enumerate(value)]
        return type(value)(parts)
    return changed(value, random)


def odd_content(seed: int) -> tuple[str, Any]:
    """A layout, and content of that layout with one or two parts spoiled."""
    random = np.random.default_rng(seed)
    layout = list(MAKERS)[random.integers(len(MAKERS))]
    data = MAKERS[layout](int(random.integers(5)))
    for _ in range(random.integers(1, 3)):
        data = spoiled(data, random)
    return layout, data
