"""BibTeX of the package and of the papers that the reference models are from."""

import tomllib
from pathlib import Path

from mmcontrast.citations import entries, papers_named
from reference_models.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
SOFTWARE = """\
@software{{mmcontrast,
  title   = {{mmcontrast: contrastive losses and miners for multimodal learning}},
  author  = {{{{the mmcontrast authors}}}},
  version = {{{version}}},
  year    = {{2026}}
}}"""


def version() -> str:
    """The version that pyproject.toml says."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def bibtex() -> str:
    keys = {key: None for model in MODELS.values() for key in papers_named(model.citation)}
    every = [SOFTWARE.format(version=version()), *(entries()[key] for key in keys)]
    return "```bibtex\n" + "\n\n".join(every) + "\n```"
