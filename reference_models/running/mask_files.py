"""The draws of masks as files: every model reads the same ones, whoever drew them first."""

import json
from pathlib import Path

from reference_models.data.corpus import Corpus
from reference_models.data.missing import Floats, draw
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
        draws = draw(mode, corpus.splits[split], data=corpus.sha256, seed=seed)
        return draws, write_sealed(path, draws, key)
    draws, found, digest = read_sealed(path)
    if found != key:
        raise ValueError(
            f"{path}: expected masks of {key}, got those of {found:.300}; delete it, and they are"
            " drawn again"
        )
    return draws, digest
