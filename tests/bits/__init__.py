"""Whether values and gradients are the same bits before a change and after it."""
