"""What a launch must notice: a rank that fails, and ranks that never end."""

import time

from tests.ranks import run


def one_fails(rank, world):
    if rank == 1:
        raise ValueError("the second rank's own words")
    time.sleep(600)


def all_wait(rank, world):
    time.sleep(600)


if __name__ == "__main__":
    run(globals())
