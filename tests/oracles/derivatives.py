"""Derivatives by central differences."""

import numpy as np


def central_differences(function, x, step=1e-5):
    """d function / d x, one entry at a time; `function` takes a numpy array, returns a number."""
    x = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient
