"""Mutation testing: one small mistake at a time in the source, and whether a test notices it.

``make mutants`` takes a sample of the mistakes that operators.py knows, spread over all files and
drawn by a seed. Each is made in a copy of the checkout under ``.mutants/``, never in the checkout,
and the tests that run its lines go over it until the first fails:

    operators.py    what can be changed in a source text, by ast
    project.py      the copies, and which mutants there are: all, a sample, the equivalent ones
    recording.py    which test runs which lines, by coverage; also in programs that a test starts
    lines.py        what was recorded, read: the tests of a mutant, in the order to try them
    child.py        a process that has torch imported and is forked for every run of pytest
    worker.py       a copy of the checkout with a mutant in it, and without, to compare
    driver.py       two workers; a mutant's result is a line of ``.mutants/results.jsonl``
    results.py      the lines read, and the table of the site

Neither of the usual tools fits: mutmut finds the tests of a function by its own wrapper, in the
process of the tests alone, and replaces the source that Triton's interpreter reads; cosmic-ray runs
one command for every mutant.
"""
