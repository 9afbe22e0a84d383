"""MCL-MCF: contrast on three levels, and multi-layer convolution fusion.

References: Multi-level Contrastive Learning: Hierarchical Alleviation of Heterogeneity in
Multimodal Sentiment Analysis.
"""

from importlib.resources import files

from reference_models.mcl_mcf.network import MclMcf
from reference_models.mcl_mcf.settings import CONTRAST, PRESETS, TABLES, MclMcfConfig
from reference_models.paper import Paper

PAPERS = (
    Paper(
        name="mcl-mcf",
        summary="contrast on three levels, and multi-layer convolution fusion",
        citation="MCL-MCF, Multi-level Contrastive Learning: Hierarchical Alleviation of"
        " Heterogeneity in Multimodal Sentiment Analysis",
        config=MclMcfConfig(),
        build=MclMcf,
        presets=PRESETS,
        tables=TABLES,
        published=files(__name__) / "published.json",
        contrast=CONTRAST,
    ),
)
