"""MFON: prompted cross attention, unimodal teachers, and contrast between modalities.

References: MFON, COLING 2025, pages 4611-4621.
"""

from importlib.resources import files

from reference_models.mfon.network import MFON
from reference_models.mfon.settings import CONTRAST, PRESETS, TABLES, MFONConfig
from reference_models.paper import Paper

PAPERS = (
    Paper(
        name="mfon",
        summary="prompted cross attention, unimodal teachers, and contrast between modalities",
        citation="MFON, COLING 2025, pages 4611-4621",
        config=MFONConfig(),
        build=MFON,
        presets=PRESETS,
        tables=TABLES,
        published=files(__name__) / "published.json",
        contrast=CONTRAST,
        fewest=1,
    ),
)
