"""What is missing in the training batches of a run, and what stands in the place of its tokens."""

from typing import TYPE_CHECKING, Any

from reference_models.data.missing import WHOLE, BlankTokens, blank_tokens, highest_rate
from reference_models.data.missing_batches import lacking_batch
from reference_models.running.trainer import Change

if TYPE_CHECKING:
    from reference_models.running.parts import Parts


def blanks_of(parts: "Parts", mode: str) -> BlankTokens:
    """What stands in the place of a missing token of a network's text.

    Where the network reads no tokens, or a mode takes whole modalities, nothing does: any will do.

    Raises:
        ValueError: a tokenizer that has neither an unknown nor a mask token.
    """
    return blank_tokens(None if mode in WHOLE else parts.tokenizer)


def batch_change(parts: "Parts") -> Change | None:
    """What takes its share out of every training batch; None where nothing is missing.

    Raises:
        ValueError: a rate that the mode does not reach, or no token for missing ones.
    """
    training, used = parts.training, parts.config["modalities"]
    mode, rate, seed = training.missing_mode, training.missing_rate, parts.config["seed"]
    if rate == 0:
        return None
    top = highest_rate(mode, used)
    if rate > top:
        raise ValueError(
            f"missing_rate: expected at most {top:.6g} for {mode}, in which each sample keeps one"
            f" of {', '.join(used)}, got {rate}"
        )
    blanks = blanks_of(parts, mode)

    def without(fields: dict[str, Any], step: int) -> dict[str, Any]:
        return lacking_batch(fields, mode, rate, seed=seed, step=step, blanks=blanks)

    return without
