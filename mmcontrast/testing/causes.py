"""What failures have in common: the same exception, the same result, or the same claim."""

import re

ON_SPECIAL_BATCHES = (
    "single_sample",
    "zero_row_is_finite",
    "no_positives_is_zero",
    "one_class_is_finite",
    "empty_batch",
)
"""Laws about one sort of batch: a NaN there says more than a NaN on any batch."""

CLAIMS = (
    "form",
    "normalized",
    "rotation_invariant",
    "permutation_invariant",
    "reductions",
    "present",
    "positives",
    "rectangular",
    "factory",
    "functional",
)
"""Traits that bring several laws, which fail together where the trait does not hold."""

NOT_FINITE = re.compile(r"the gradient of \w+ is not finite|the loss is -?inf|\bnan\b")


def cause_of(law: str, needs: str, message: str, noun: str = "loss") -> str:
    """A text that failures of one cause share; ``needs``: the traits that claim the law.

    ``noun`` is what was checked: a loss, a miner or a distance.

    Example:
        >>> cause_of("nonnegative", "nonnegative", "raised IndexError: index 3 of 2")
        'raised IndexError: index # of #'
        >>> cause_of("cosine_bounds", "form, normalized and temperature", "1 is above 0")
        'the loss is not what form= claims'
        >>> cause_of("many_are_all", "factory", "k = 4 leaves [[0, 1]]", "miner")
        'the miner is not what factory= claims'
    """
    if message.startswith("raised "):
        return re.sub(r"\d[\d.e+-]*", "#", message)
    found = NOT_FINITE.search(message)
    if found is not None and law not in ON_SPECIAL_BATCHES:
        return found.group().replace("nan", f"the {noun} is nan")
    words = set(re.findall(r"\w+", needs))
    claim = next((name for name in CLAIMS if name in words), None)
    if claim is None or found is not None:
        return f"{law}: {message}"
    return f"the {noun} is not what {claim}= claims"
