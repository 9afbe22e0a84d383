"""Text alone: a fine-tuned text encoder and one linear layer, which any other model should beat."""

from reference_models.paper import Paper
from reference_models.text_only.network import TextOnly
from reference_models.text_only.settings import TextOnlyConfig

PAPERS = (
    Paper(
        name="text-only",
        summary="the text encoder and one linear layer: what the others have to beat",
        citation="none",
        config=TextOnlyConfig(),
        build=TextOnly,
        fewest=1,
        reads=("text",),
    ),
)
