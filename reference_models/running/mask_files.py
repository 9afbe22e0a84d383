"""The draws of masks as files: every model reads the same ones, whoever drew them first."""

import json
from pathlib import Path

import numpy as np

from reference_models.data.corpus import Corpus
from reference_models.data.missing import STEPS, Floats, draw
from reference_models.running.folders import one_at_a_time
from reference_models.running.sealed import read_sealed, write_sealed


def stored_draws(
    folder: Path, mode: str, corpus: Corpus, split: str, seed: int
) -> tuple[dict[str, Floats], str]:
    """The draws of a mode and a seed for a split, and their SHA-256; drawn where there is no file.

    Args:
        folder: of the files; it is made where it is not there.
        mode, seed: of the masks.
        corpus, split: of the data.

    Raises:
        ValueError: a file that was cut or changed, or holds other draws than its name says.
    """
    path = folder / f"{mode}-{split}-{corpus.sha256[:12]}-seed{seed}.safetensors"
    about = {"data": corpus.sha256, "split": split, "mode": mode, "seed": seed}
    about |= {"samples": len(corpus.splits[split]), "modalities": list(corpus.modalities)}
    key = json.dumps(about)
    if not path.exists():
        with one_at_a_time(folder):
            if not path.exists():  # nor has another process made it while this one waited
                draws = draw(mode, corpus.splits[split], data=corpus.sha256, seed=seed)
                return draws, write_sealed(path, draws, key)
    draws, found, digest = read_sealed(path)
    if found != key:
        raise ValueError(
            f"{path}: expected masks of {key}, got those of {found:.300}; delete it, and they are"
            " drawn again"
        )
    names = {"time"} if mode == "shared-frames" else set(corpus.modalities)
    if draws.keys() != names or not all(
        _are_draws(x, mode, about["samples"]) for x in draws.values()
    ):
        shapes = {name: x.shape for name, x in draws.items()}
        raise ValueError(
            f"{path}: expected a row of numbers for each of {about['samples']} samples, by"
            f" {', '.join(sorted(names))}, got {shapes!s:.300}; delete it, and they are drawn again"
        )
    return draws, digest


def _are_draws(draws: Floats, mode: str, samples: int) -> bool:
    """Whether these are draws of a mode for so many samples, of one part of :func:`draw`'s."""
    width = draws.shape[1:]  # the steps of frames, at least one; else each sample has one number
    fits = {"frames": len(width) == 1 and width != (0,), "shared-frames": width == (STEPS,)}
    numbers = draws.dtype == np.float32 and bool(np.isfinite(draws).all())
    return numbers and draws.shape[:1] == (samples,) and fits.get(mode, not width)
