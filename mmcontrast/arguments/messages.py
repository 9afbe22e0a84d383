"""How the message of a wrong argument reads: ``name: expected X, got Y``."""

from reprlib import Repr
from typing import NoReturn

import numpy as np
from torch import Tensor, nn

SHORT = Repr()
SHORT.maxother = SHORT.maxstring = 60

LONGEST = 2**63 - 1  # of an index


def fail(name: str, expected: str, got: object) -> NoReturn:
    """Raise the ValueError for a caller's argument."""
    raise ValueError(f"{name}: expected {expected}, got {got}")


def shape(x: Tensor) -> str:
    """The shape as messages print it: ``(3, 5)``."""
    return f"({', '.join(map(str, x.shape))}{',' if x.ndim == 1 else ''})"


def shown(value: object) -> str:
    """What came, short however long it is: a tensor by shape and dtype, a Module by its class."""
    if isinstance(value, Tensor):
        if value.is_nested:  # it has no shape
            return "a nested tensor"
        return f"{shape(value) if value.ndim else repr(value.detach())} {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} {value.dtype}"
    if isinstance(value, nn.Module):
        return f"the Module {type(value).__name__}"
    if isinstance(value, int) and abs(value) > LONGEST:  # Python refuses to write very long ones
        return f"a whole number of {value.bit_length()} bits"
    return SHORT.repr(value)
