"""Addresses of the names of torch and Python that signatures show, as inventories of intersphinx.

They are written here and not fetched, so that a build needs no network and is the same every time.
"""

import zlib
from pathlib import Path

TORCH = {
    "torch.Tensor": ("class", "tensors.html"),
    "torch.Generator": ("class", "generated/torch.Generator.html"),
    "torch.nn.Module": ("class", "generated/torch.nn.Module.html"),
    "torch.nn.functional.cross_entropy": (
        "function",
        "generated/torch.nn.functional.cross_entropy.html",
    ),
    "torch.device": ("class", "tensor_attributes.html"),
    "torch.dtype": ("class", "tensor_attributes.html"),
    "torch.distributed.ProcessGroup": ("class", "distributed.html"),
    "torch.utils.data.Sampler": ("class", "data.html"),
    # As types name themselves.
    "torch._C.Generator": ("class", "generated/torch.Generator.html"),
    "torch.optim.optimizer.Optimizer": ("class", "optim.html"),
    "torch.nn.modules.module.Module": ("class", "generated/torch.nn.Module.html"),
    "torch.nn.modules.container.ModuleDict": ("class", "generated/torch.nn.ModuleDict.html"),
}
PYTHON = {
    **{
        f"collections.abc.{name}": ("class", "library/collections.abc.html")
        for name in (
            *("Callable", "Collection", "ItemsView", "Iterable", "Iterator", "KeysView"),
            *("Mapping", "MutableMapping", "Sequence"),
        )
    },
    **dict.fromkeys(("bool", "float", "int", "object"), ("class", "library/functions.html")),
    **dict.fromkeys(("dict", "list", "str", "tuple"), ("class", "library/stdtypes.html")),
    "frozenset": ("class", "library/stdtypes.html"),
    "set": ("class", "library/stdtypes.html"),
    "type": ("class", "library/functions.html"),
    "None": ("data", "library/constants.html"),
    "typing.Any": ("data", "library/typing.html"),
    "typing.NamedTuple": ("class", "library/typing.html"),
    "ValueError": ("exception", "library/exceptions.html"),
    "TypeError": ("exception", "library/exceptions.html"),
    "RuntimeError": ("exception", "library/exceptions.html"),
    "ImportError": ("exception", "library/exceptions.html"),
    "AttributeError": ("exception", "library/exceptions.html"),
    "AssertionError": ("exception", "library/exceptions.html"),
    "KeyError": ("exception", "library/exceptions.html"),
    "IndexError": ("exception", "library/exceptions.html"),
}
NUMPY = {"numpy.ndarray": ("class", "reference/generated/numpy.ndarray.html")}
PROJECTS = {
    "numpy": ("https://numpy.org/doc/stable/", NUMPY),
    "torch": ("https://docs.pytorch.org/docs/stable/", TORCH),
    "python": ("https://docs.python.org/3/", PYTHON),
}
NO_PAGE = [
    r"mmcontrast\.gate\.Rows",  # a type variable
    r"(mmcontrast\.testing\.\w+\.)?(Batch|Subject)",  # what laws are written with
    r"Figure|hypothesis\.strategies\.SearchStrategy",
]
"""Names that a signature or docstring shows and that have no page here or in an inventory."""


def written(folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory of each project into a folder, and say so to intersphinx."""
    folder.mkdir(exist_ok=True)
    for project, (_, names) in PROJECTS.items():
        lines = [f"{name} py:{kind} 1 {page}#$ -" for name, (kind, page) in sorted(names.items())]
        head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = zlib.compress("\n".join([*lines, ""]).encode())
        (folder / f"{project}.inv").write_bytes(head.encode() + body)
    return {
        project: (address, str(folder / f"{project}.inv"))
        for project, (address, _) in PROJECTS.items()
    }
