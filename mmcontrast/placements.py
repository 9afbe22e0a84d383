"""Which DTensors a function takes beside each other, and what else comes with them.

DTensors are typed ``Any`` here: torch.distributed.tensor takes long to import, and is only where
somebody else has imported it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import checked_group

FULL = "x.full_tensor() has the rows of all ranks"
OTHERWISE = (
    f"x.redistribute(placements=[Shard(0)]) changes it; {FULL}; "
    "x.to_local() has this rank's, for group="
)


class Takes(NamedTuple):
    """What has to be known of a function."""

    function: str
    names: tuple[str, ...]
    """Of its arguments, in order."""
    group: bool
    """Whether it has a ``group=``."""
    numbers: frozenset[str]
    """Arguments that may be a float: as tensors they are the same on all ranks."""
    labelled: bool
    """Whether labels, scores or ids say who belongs together, wherever a candidate is placed."""


class Given(NamedTuple):
    """A tensor among the arguments."""

    path: str
    """As ``features['text']``."""
    argument: str
    x: Any


def tensors_of(path: str, argument: str, value: Any) -> Iterator[Given]:
    """The tensors of an argument, also inside containers."""
    if isinstance(value, Tensor):
        yield Given(path, argument, value)
    elif isinstance(value, Mapping):
        for key in value:
            yield from tensors_of(f"{path}[{key!r}]", argument, value[key])
    elif isinstance(value, tuple | list):
        for k, part in enumerate(value):
            yield from tensors_of(f"{path}[{k}]", argument, part)


def is_dtensor(x: object) -> bool:
    """Whether it is a DTensor, where that class is imported already."""
    from torch.distributed.tensor import DTensor

    return isinstance(x, DTensor)


def is_sharded(x: Any) -> bool:
    """``Shard(0)`` on a mesh of one dimension; a strided shard is another class."""
    return bool(x.device_mesh.ndim == 1 and x.placements[0].is_shard(0))


def check_placement(leaf: Given, first: Given, takes: Takes) -> None:
    """A DTensor that is the same on every rank, or rows of all ranks; on the mesh of the first."""
    mesh, whole = leaf.x.device_mesh, all(place.is_replicate() for place in leaf.x.placements)
    if _is_number(leaf, takes):
        arguments.on_every_rank(leaf.path, leaf.x)
    if not whole and not is_sharded(leaf.x):
        expected = "a DTensor placed Replicate(), or Shard(dim=0) on a mesh of one dimension"
        arguments.fail(leaf.path, expected, f"{_placed(leaf.x)} ({OTHERWISE})")
    if mesh != first.x.device_mesh:
        expected = f"a DTensor on the mesh of {first.path}, ranks {_ranks(first.x)}"
        arguments.fail(leaf.path, expected, f"ranks {_ranks(leaf.x)} in shape {tuple(mesh.shape)}")
    if mesh.get_coordinate() is None:
        expected = f"a mesh with this rank, {dist.get_rank()}"
        arguments.fail(leaf.path, expected, f"one with ranks {_ranks(leaf.x)}")


def check_group_apart(group: Any, leaf: Given) -> None:
    """No group with other ranks of the mesh: their rows are these, and would count once more."""
    shared = [rank for rank in _members(group) if rank in _ranks(leaf.x)]
    if len(shared) > 1:
        expected = f"None, or a group of other ranks, as {leaf.path} is {_placed(leaf.x)}"
        arguments.fail("group", expected, f"ranks {shared} of that mesh ({OTHERWISE})")


def check_beside(found: list[Given], first: Given, takes: Takes, given: Mapping[str, Any]) -> None:
    """What comes with sharded rows: other rows sharded alike, and numbers; no targets.

    All of it is known to every rank, so that none raises an error while the others wait for it.
    """
    if not takes.group:
        expected = f"all rows on every rank, as {takes.function} has no group="
        arguments.fail(first.path, expected, f"{_placed(first.x)} ({FULL})")
    if given.get("targets") is not None:
        expected = f"None, as {first.path} is sharded and a partner may be on another rank"
        instead = f"positives=, sharded as the rows, takes any partner; {FULL}"
        arguments.fail("targets", expected, f"{arguments.shown(given['targets'])} ({instead})")
    place_is_free = takes.labelled or given.get("positives") is not None
    sizes: dict[bool, Given] = {}
    for leaf in found:
        if _is_number(leaf, takes):
            continue
        if not (is_dtensor(leaf.x) and is_sharded(leaf.x)):
            got = _placed(leaf.x) if is_dtensor(leaf.x) else f"a plain {arguments.shown(leaf.x)}"
            name = leaf.argument
            instead = (
                f"{name}.redistribute(placements=[Shard(0)])"
                if is_dtensor(leaf.x)
                else f"distribute_tensor({name}, mesh, [Shard(0)]) if it is that of all ranks, "
                f"DTensor.from_local({name}, mesh, [Shard(0)]) if it is this rank's part"
            )
            expected = f"a DTensor placed (Shard(dim=0),), as {first.path}"
            arguments.fail(leaf.path, expected, f"{got} ({instead})")
        other_side = leaf.argument == "y" or leaf.argument.startswith("candidate")
        like = sizes.setdefault(place_is_free and other_side, leaf)
        if len(leaf.x) != len(like.x):
            expected = f"{len(like.x)} rows on all ranks, as {like.path}, so that each has partners"
            arguments.fail(leaf.path, expected, f"{len(leaf.x)} ({FULL})")
    for name, value in given.items():
        if isinstance(value, nn.Module) and any(x.requires_grad for x in value.parameters()):
            expected = "nothing to train in it beside sharded rows"
            arguments.fail(name, expected, f"{arguments.shown(value)} ({FULL})")


def group_of_mesh(leaf: Given, group: Any) -> Any:
    """The group of the rows' mesh; no other one may be given."""
    found = leaf.x.device_mesh.get_group()
    ranks = _members(found)
    if _ranks(leaf.x) != ranks:
        expected = f"a mesh of ranks in the order of its group, {ranks}"
        arguments.fail(leaf.path, expected, f"{_ranks(leaf.x)} ({OTHERWISE})")
    if group is not None and _members(group) != ranks:
        expected = f"None, or the group of the mesh of {leaf.path}, ranks {ranks}"
        arguments.fail("group", expected, f"one of ranks {_members(group)}")
    return found


def _is_number(leaf: Given, takes: Takes) -> bool:
    """Whether a tensor is one number and not one for each row."""
    return leaf.x.ndim == 0 or (leaf.argument in takes.numbers and leaf.x.shape == (1,))


def _placed(x: Any) -> str:
    return f"a DTensor placed {x.placements} on a mesh of shape {tuple(x.device_mesh.shape)}"


def _ranks(x: Any) -> list[int]:
    """The ranks in a DTensor's mesh."""
    return list(_mesh_ranks(x.device_mesh))


def _mesh_ranks(mesh: Any) -> tuple[int, ...]:
    return tuple(mesh.mesh.flatten().tolist())


# To the compiler, a mesh's ranks are a tensor with values that it cannot know.
_mesh_ranks._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch's private mark


def _members(group: Any) -> list[int]:
    """The ranks of a process group, in its order."""
    checked_group(group)
    if group is None:
        return []
    return list(dist.get_process_group_ranks(dist.group.WORLD if group == "world" else group))
