"""``python -m tests.mutants map``, ``run`` and ``table``; ``make mutants`` does all three."""

import argparse
from pathlib import Path

from tests.mutants import driver, results
from tests.mutants.project import ROOT, Project
from tests.mutants.worker import say

PRELOAD = (
    *("torch", "torch._dynamo", "torch.testing", "numpy", "einops", "scipy.stats"),
    *("transformers", "transformers.trainer", "accelerate", "sklearn.metrics", "matplotlib.figure"),
)
"""What tests import and no mutant changes."""
LEFT_OUT = ("mmcontrast/testing/broken",)
"""What is wrong on purpose: another mistake there is as good."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("command", choices=["map", "run", "table", "survivors"])
    parser.add_argument("paths", nargs="*", help="test files to map, or files to mutate")
    parser.add_argument("--count", type=int, default=420, help="about how many, over all files")
    parser.add_argument("--seed", type=int, default=0, help="which of them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget", type=float, default=120, help="seconds of tests for a mutant")
    parser.add_argument("--limit", type=float, default=1800, help="seconds to map a file in")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to import tests in, and more"
    )
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--store", action="store_true", help="table: for the site")
    parser.add_argument("--with-peers", action="append", default=[], metavar="PATH")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--sources", nargs="+", default=["mmcontrast", "reference_models"])
    return parser.parse_intermixed_args(given)


def project(options: argparse.Namespace) -> Project:
    root = options.root.resolve()
    if root != ROOT:
        tests, equivalents = ("tests", *options.sources), root / "equivalent.toml"
        given = {"tests": tests, "equivalents": equivalents, "patience": options.patience}
        return Project(root, options.sources, **given)
    peers = root / ".venv" / "peers"
    return Project(
        root,
        options.sources,
        LEFT_OUT,
        patience=options.patience,
        preload=PRELOAD,
        peers=peers if peers.is_dir() else None,
        with_peers=options.with_peers,
    )


def main() -> None:
    options = arguments()
    ours = project(options)
    if options.command == "map":
        with driver.alone(ours):
            driver.make_map(ours, options.paths, options.workers, options.limit)
        return
    sample = ours.sample(options.count, options.seed, options.paths)
    if options.command == "run":
        with driver.alone(ours):
            if options.again:
                results.forget_survivors(ours)
            driver.run(ours, sample, options.workers, options.budget)
    elif options.command == "survivors":
        known = results.results(ours)
        for mutant in sample:
            result = known.get(mutant.key(ours.source(mutant.path)), {"result": "not tried"})
            if result["result"] in ("survived", "not run") and not ours.is_equivalent(mutant):
                say(f"{result['result']}: {mutant.path}:{mutant.at} {mutant.line}")
                say(f"    {result['old']} -> {result['new']}")
    rows = results.counts(ours, sample)
    say(results.text(rows))
    if options.store:
        paths = list(options.paths or options.sources)
        about = {"seed": options.seed, "count": options.count, "paths": paths}
        about |= {"of": sum(len(ours.all(path)) for path in ours.files(options.paths))}
        results.keep({**about, "rows": rows})


if __name__ == "__main__":
    main()
