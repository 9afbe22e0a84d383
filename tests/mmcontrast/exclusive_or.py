"""Three modalities of which two tell all about the third, and one alone tells nothing."""

import torch


def bits(count):
    """(2^count, count) all words of signs."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * count).view(-1, count)


def exclusive_or(n, count, generator=None):
    """(n, count) signs by modality: text and audio at random, and vision their product, bit by bit.

    As truth values, vision is the exclusive or of both. Any two modalities are independent.
    """
    words = bits(count)
    text, audio = (words[torch.randint(len(words), (n,), generator=generator)] for _ in range(2))
    return {"text": text, "audio": audio, "vision": text * audio}
