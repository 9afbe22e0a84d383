"""Late fusion of text and audio, with a contrast between the two."""

from reference_models.paper import Paper
from tests.reference_models.late_fusion.network import LateFusion
from tests.reference_models.late_fusion.settings import TABLES, LateFusionConfig

PAPERS = (
    Paper(
        name="late-fusion",
        summary="two predictions, averaged, and a contrast between text and audio",
        citation="none",
        config=LateFusionConfig(),
        build=LateFusion,
        tables=TABLES,
        reads=("text", "audio"),
    ),
)
