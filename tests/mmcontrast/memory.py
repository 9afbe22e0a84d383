"""What a call makes: the tensors of its operations, and the bytes that it holds at once."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Made(TorchDispatchMode):
    """Entries of the largest tensor that an operation inside makes, and of all; views are none."""

    def __init__(self):
        super().__init__()
        self.largest = self.all = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        seen = {storage(x) for x in tensors((args, kwargs))}
        for x in tensors(found):
            if storage(x) not in seen:
                size = x.untyped_storage().nbytes() // x.element_size()
                self.largest = max(self.largest, size)
                self.all += size
        return found


def tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def storage(x):
    return x.untyped_storage()._cdata


def peak(function):
    """The most bytes held at once beyond what was there before, by the profiler's record."""
    # Without `acc_events`, some releases warn that a second cycle would lose the first.
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        function()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
