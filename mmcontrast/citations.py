"""BibTeX of the papers behind a function, out of ``citations.bib``.

A docstring is the only place that says where a function comes from; here its "References" are
looked up. An entry is meant where its arXiv number stands there, or its ``shorttitle``.
"""

import inspect
import re
import sys
from functools import cache, partial
from importlib.resources import files

from mmcontrast import arguments

__all__ = ["citation", "entries", "papers_named"]


def citation(function: object) -> str:
    """BibTeX of the papers that a docstring of this package names, in its order.

    Args:
        function: a public function, Module class, Module or name, as in ``citation(info_nce)``,
            ``citation(loss)`` and ``citation("InfoNCE")``, compiled or not. A Module cites what its
            function does, and a subclass of your own what it is made of.

    Returns:
        One entry for each paper, with a blank line between two; empty where the docstring names
        none.

    Raises:
        ValueError: on what is no public name of mmcontrast.

    Example:
        >>> print(citation("rank_n_contrast"))
        @inproceedings{zha2023rnc,
          title         = {Rank-N-Contrast: Learning Continuous Representations for Regression},
          author        = {Zha, Kaiwen and Cao, Peng and Son, Jeany and Yang, Yuzhe and
                           Katabi, Dina},
          booktitle     = {Advances in Neural Information Processing Systems (NeurIPS)},
          year          = {2023},
          eprint        = {2210.01189},
          archiveprefix = {arXiv}
        }
    """
    known = entries()
    return "\n\n".join(known[key] for key in papers_named(_references(_public(function))))


@cache
def entries() -> dict[str, str]:
    """All entries of the file, by key."""
    text = files("mmcontrast").joinpath("citations.bib").read_text(encoding="utf-8")
    parts = re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]
    return {part.split("{", 1)[1].split(",", 1)[0]: part.strip() for part in parts}


def papers_named(references: str) -> list[str]:
    """Keys of the papers that a text names, by where it first names them."""
    text = " ".join(references.split())
    found = {key: _mention(entry).search(text) for key, entry in entries().items()}
    places = {key: match.start() for key, match in found.items() if match}
    return sorted(places, key=places.__getitem__)


@cache
def _mention(entry: str) -> re.Pattern[str]:
    """What names an entry in a text."""
    fields = dict(re.findall(r"^  (eprint|shorttitle) += \{(.+)\}", entry, flags=re.MULTILINE))
    ways = []
    if "eprint" in fields:
        ways.append(rf"arXiv:{re.escape(fields['eprint'])}(?!\d)")
    if "shorttitle" in fields:
        ways.append(rf"(?<![\w-]){re.escape(fields['shorttitle'])}(?![\w-])")
    return re.compile("|".join(ways))


def _public(function: object) -> object:
    """The public object that was given, or named, or made an instance of."""
    package = sys.modules["mmcontrast"]
    if isinstance(function, str):
        if function not in package.__all__:
            arguments.fail("function", "a public name of mmcontrast", arguments.shown(function))
        return getattr(package, function)
    target = function.func if isinstance(function, partial) else function
    target = getattr(target, "_orig_mod", target)  # what torch.compile was given, of a Module
    target = getattr(target, "_torchdynamo_orig_callable", target)  # and of a function
    made = [getattr(package, name) for name in package.__all__]
    own = target if isinstance(target, type) else type(target)
    for candidate in (target, *own.__mro__):
        if any(candidate is one for one in made):
            return candidate
    return arguments.fail(
        "function", "a public function or Module of mmcontrast, or its name", _came(function)
    )


def _came(function: object) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else arguments.shown(function)


def _references(target: object) -> str:
    """The references of a docstring: of a class with its methods, and of the function it calls."""
    if not isinstance(target, type):
        return _section(target)
    module = vars(sys.modules[target.__module__])
    same = [
        value
        for name, value in module.items()
        if name.replace("_", "") == target.__name__.lower() and inspect.isfunction(value)
    ]
    methods = [value for name, value in vars(target).items() if not name.startswith("_")]
    return " ".join(map(_section, [target, *methods, *same]))


def _section(target: object) -> str:
    """What stands below "References:" in a docstring."""
    return (inspect.getdoc(target) or "").partition("References:")[2]
