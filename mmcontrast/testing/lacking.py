"""What torch itself does not have: no fault of a loss, so that the law is skipped."""

import re

SECOND_DERIVATIVE = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
LOW_PRECISION = re.compile(r'"(\w+)" not implemented for \'(BFloat16|Half)\'')


def lacking(error: BaseException) -> str | None:
    """Which operator torch lacks, where that is what the exception says, else None.

    Example:
        >>> lacking(RuntimeError("\\"cdist\\" not implemented for 'Half'"))
        'torch has no cdist in Half on this device'
        >>> lacking(RuntimeError("sizes do not match"))
    """
    found = SECOND_DERIVATIVE.search(str(error))
    if found is not None:
        return f"torch has no derivative of {found[1]}"
    found = LOW_PRECISION.search(str(error))
    if found is not None:
        return f"torch has no {found[1]} in {found[2]} on this device"
    return None
