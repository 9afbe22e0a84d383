"""TeCaFN: text-centred contrast, and cross-sample fusion through a replacement gate.

References: TeCaFN, Multimedia Systems 30(4):228, 2024.
"""

from importlib.resources import files

from reference_models.paper import Paper
from reference_models.tecafn.network import TeCaFN
from reference_models.tecafn.settings import CONTRAST, PRESETS, TABLES, TeCaFNConfig

PAPERS = (
    Paper(
        name="tecafn",
        summary="text-centred contrast, and cross-sample fusion through a replacement gate",
        citation="TeCaFN, Multimedia Systems 30(4), 2024",
        config=TeCaFNConfig(),
        build=TeCaFN,
        presets=PRESETS,
        tables=TABLES,
        published=files(__name__) / "published.json",
        contrast=CONTRAST,
        fewest=1,
    ),
)
