"""CorMulT: a transformer across modalities, weighted by a pre-trained correlation.

References: CorMulT, arXiv:2407.07046.
"""

from importlib.resources import files

from reference_models.cormult.network import CorMulT
from reference_models.cormult.settings import CONTRAST, PRESETS, TABLES, CorMulTConfig
from reference_models.paper import Paper

PAPERS = (
    Paper(
        name="cormult",
        summary="a transformer across modalities, weighted by a pre-trained correlation",
        citation="CorMulT, arXiv:2407.07046, 2024",
        config=CorMulTConfig(),
        build=CorMulT,
        presets=PRESETS,
        tables=TABLES,
        published=files(__name__) / "published.json",
        contrast=CONTRAST,
    ),
)
