"""How many balanced batches there are, by trying."""


def fewest(groups, width):
    """The smallest number of groups of one class that fills a batch."""
    return next(m for m in range(1, width + 1) if sum(min(g, m) for g in groups) >= width)


def dealt(groups, width, most, batches):
    """The groups of as many batches as one can fill, by always taking what is left of most."""
    left, found = list(groups), []
    while len(found) < batches:
        batch = []
        for _ in range(width):
            free = [c for c in range(len(left)) if left[c] and batch.count(c) < most[c]]
            if not free:
                return found
            chosen = max(free, key=lambda c: left[c])
            left[chosen] -= 1
            batch.append(chosen)
        found.append(batch)
    return found


def batches_once(sizes, width, per_class, ranks):
    """The number of batches of all ranks in an epoch without repeats."""
    groups = [n // per_class for n in sizes]
    most = fewest(groups, width)
    found = dealt(groups, width, [most] * len(groups), sum(groups))
    return len(found) // ranks * ranks


def batches_repeated(sizes, width, per_class, ranks):
    """The smallest number of batches of all ranks in which every sample has a place."""
    most = fewest([n // per_class for n in sizes], width)
    batches = ranks
    while True:
        places = [min(most, n // per_class) * batches * per_class for n in sizes]
        needed = sum(-(-n // per_class) for n in sizes)
        if all(map(int.__ge__, places, sizes)) and needed <= width * batches:
            return batches
        batches += ranks
