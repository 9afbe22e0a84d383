"""What no law looked at, since the loss declares nothing about it, and how to declare it."""

from collections.abc import Collection

FORMULA = ("equals_its_formula", "temperature_divides", "equals_the_reference")
TOPICS = {
    "denominator": ("collapse_value", "positive_is_linear", *FORMULA),
    "temperature": ("cosine_bounds", "low_temperature_limit", "positive_is_linear", *FORMULA),
    "masks": (
        "collapse_value",
        "masked_sample_is_removed",
        "ignored_sample_is_removed",
        "absent_sample_is_removed",
        *FORMULA,
    ),
    "hardness": ("mined_negatives_are_hardest", "mined_positives_are_hardest"),
    "number of negatives": ("mined_number_is_as_declared", "more_contain_fewer"),
    "values": ("distance_equals_its_reference", "distance_scales_with_rows", "triangle_inequality"),
    "margin": ("larger_margin_costs_more", "equal_rows_are_at_the_margin", *FORMULA),
}
"""By topic, the laws that a mistake there can break."""

SOFTMAX = (
    ("denominator", "temperature", "masks"),
    "declare form= and temperature= (infer=True proposes them), or reference=",
)
MINED = (
    ("hardness", "number of negatives"),
    "declare hardest=, and count= or factory= (number of negatives -> miner)",
)
MEANT_FOR = {
    "paired": SOFTMAX,
    "labelled": SOFTMAX,
    "triplet": (("margin",), "declare factory= (margin -> loss), or reference="),
    "multimodal": (
        ("denominator", "temperature", "masks"),
        "declare reference= (a slow loss to compare with), and present= for masks",
    ),
    "miner": MINED,
    "labelled_miner": MINED,
    "distance": (("values",), "declare metric=, degree= or reference="),
}
"""By kind, the topics, and the traits that bring laws about them."""

DECOUPLED = "declare temperature=, and keep= for masks, or reference="
"""The traits of a loss without the positive in its denominator, which has no form=."""


def unchecked(kind: str, laws: Collection[str], *, decoupled: bool = False) -> str:
    """A clause that names the topics that none of the laws is about; empty without one.

    Args:
        kind, decoupled: of the loss, see :class:`Traits`.
        laws: the names of those that were run.

    Example:
        >>> unchecked("triplet", ["nonnegative"])
        'no law was run on the margin: declare factory= (margin -> loss), or reference='
        >>> unchecked("triplet", ["nonnegative", "equal_rows_are_at_the_margin"])
        ''
    """
    topics, declare = MEANT_FOR[kind]
    declare = DECOUPLED if decoupled else declare
    missing = [topic for topic in topics if not set(TOPICS[topic]) & set(laws)]
    if not missing:
        return ""
    *first, last = missing
    named = f"{', '.join(first)} or {last}" if first else last
    return f"no law was run on the {named}: {declare}"
