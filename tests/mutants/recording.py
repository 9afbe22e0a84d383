"""Which test runs which lines: a plugin of pytest around coverage's contexts.

What a fixture of a wider scope runs belongs to every test that uses it. Programs that a test
starts record under the name of the test or of the fixture that started them: those of
tests/forks.py by ``program`` below, all others by what coverage starts in every new Python.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

CONTEXT = "MUTANTS_CONTEXT"
"""The environment's variable with the name of what runs."""

SETTINGS = """[run]
data_file = {data}
parallel = true
core = ctrace
context = ${{MUTANTS_CONTEXT-}}
include = {include}
concurrency = thread
patch = _exit
disable_warnings = no-data-collected,module-not-measured,couldnt-parse,trace-changed
"""


class Recording:
    """Writes ``into``, a folder: data of coverage, and tests.json with their times and fixtures."""

    def __init__(self, into: Path, paths: list[str]) -> None:
        self.into = into
        settings = into / "settings"
        data, include = into / "data", ",".join(f"{Path.cwd() / path}/*" for path in paths)
        settings.write_text(SETTINGS.format(data=data, include=include))
        self.settings = str(settings)
        self.coverage = coverage.Coverage(config_file=self.settings)
        self.tests: dict[str, dict[str, Any]] = {}
        self.used: list[str] = []

    def name(self, context: str) -> None:
        os.environ[CONTEXT] = context
        self.coverage.switch_context(context)

    def pytest_sessionstart(self) -> None:
        os.environ["COVERAGE_PROCESS_START"] = self.settings
        os.environ[CONTEXT] = ""
        self.coverage.set_option("run:context", None)
        self.coverage.start()

    def pytest_collection_finish(self) -> None:
        forks = sys.modules.get("tests.forks")
        if forks is not None:
            vars(forks)["program"] = program

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        # Its fixtures are those that were set up for it or before it in its file.
        known = getattr(item, "_fixtureinfo", None)
        names = [] if known is None else [d for ds in known.name2fixturedefs.values() for d in ds]
        self.tests[item.nodeid] = {"passed": False, "uses": [fixture(d) for d in names if wide(d)]}
        self.name(item.nodeid)
        began = time.perf_counter()
        result = yield
        self.tests[item.nodeid]["seconds"] = round(time.perf_counter() - began, 4)
        self.name("")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before = os.environ[CONTEXT]
        if not wide(fixturedef):
            return (yield)
        self.name(fixture(fixturedef))
        try:
            return (yield)
        finally:
            self.name(before)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.tests[report.nodeid]["passed"] = report.passed
        elif report.failed:
            self.tests[report.nodeid]["passed"] = False

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        self.coverage.save()
        (self.into / "tests.json").write_text(json.dumps(self.tests))


def wide(definition: Any) -> bool:
    return bool(definition.scope != "function")


def fixture(definition: Any) -> str:
    return f"fixture {definition.baseid}::{definition.argname}"


def program(module: str, arguments: list[str], environment: dict[str, str], said: str) -> None:
    """What tests.forks.program does, recorded."""
    from tests import forks

    # The server of forks records too, and so does what is forked from it, under no name.
    inherited = coverage.Coverage.current()
    if inherited is not None:
        inherited.stop()
    settings = environment["COVERAGE_PROCESS_START"]
    os.environ[CONTEXT] = environment[CONTEXT]
    own = coverage.Coverage(config_file=settings, data_suffix=True)
    own.start()
    try:
        forks.program(module, arguments, environment, said)
    finally:
        own.stop()
        own.save()
