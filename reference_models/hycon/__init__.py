"""HyCon and HyCon-v2: hybrid contrastive learning of three modalities.

References: HyCon, IEEE Transactions on Affective Computing 14(3):2276-2289, 2023.
"""

from importlib.resources import files

from reference_models.hycon.network import HyCon
from reference_models.hycon.settings import (
    CONTRAST,
    PRESETS,
    TABLES,
    V2_CONTRAST,
    V2_TABLES,
    HyConConfig,
)
from reference_models.paper import Paper

CITATION = "HyCon, IEEE Transactions on Affective Computing 14(3), 2023"
PUBLISHED = files(__name__) / "published.json"
PAPERS = (
    Paper(
        name="hycon",
        summary="hybrid contrastive learning: intra-modal, inter-modal, semi-contrastive",
        citation=CITATION,
        config=HyConConfig(),
        build=HyCon,
        presets=PRESETS,
        tables=TABLES,
        published=PUBLISHED,
        contrast=CONTRAST,
    ),
    Paper(
        name="hycon-v2",
        summary="HyCon with selected and weighted pairs",
        citation=CITATION,
        config=HyConConfig(supervised_loss="hycon_v2"),
        build=HyCon,
        presets=PRESETS,
        tables=V2_TABLES,
        published=PUBLISHED,
        contrast=V2_CONTRAST,
    ),
)
