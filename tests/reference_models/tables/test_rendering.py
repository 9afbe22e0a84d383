"""Figures as files and in pages: of their kind, apart from each other, readable in the dark."""

import re

import pytest

from reference_models.tables import figures
from reference_models.tables.finished import Run
from reference_models.tables.pages import html_page
from reference_models.tables.rendering import VARIABLES, common_limits, inline, render
from tests.reference_models.tables.test_figures import run_folder


def test_files_are_of_their_kind_and_the_same_every_time(tmp_path):
    run = Run(run_folder(tmp_path / "a"))
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first = render(figures.draw_scatter, run, kind)
        assert first.startswith(start)
        assert render(figures.draw_scatter, run, kind) == first


def test_prefixes_keep_figures_on_a_page_apart(tmp_path):
    svg = render(figures.draw_scatter, Run(run_folder(tmp_path / "a")), "svg")
    html = inline(svg, label='a "b"', caption="<c>", prefix="x-")
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert ids
    assert all(name.startswith("x-") for name in ids)
    targets = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', html)
    assert {a or b for a, b in targets} <= set(ids)
    assert 'aria-label="a &quot;b&quot;"' in html
    assert "&lt;c&gt;" in html
    assert "<?xml" not in html


@pytest.mark.parametrize("draw", [figures.draw_terms, figures.draw_scatter, figures.draw_features])
def test_a_page_has_the_colours_of_its_figures_for_light_and_for_dark(tmp_path, draw):
    svg = render(draw, Run(run_folder(tmp_path / "a")), "svg")
    html = inline(svg, label="a", caption="b", prefix="x-")
    assert not any(f": {colour}" in html for colour in VARIABLES)
    assert any(f": {variable}" in html for variable in VARIABLES.values())
    assert "#ffffff" not in html  # no background
    style = html_page("t", [html])
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")
    for variable in VARIABLES.values():
        name = variable.removeprefix("var(").removesuffix(")")
        assert f"{name}: #" in light
        assert f"{name}: #" in dark


def test_common_limits_hold_every_figure():
    def line(xs, ys, *, turned=False):
        def draw(axes, run):
            axes.plot(xs, ys)
            axes.set(xlim=(min(xs), max(xs)), ylim=(min(ys), max(ys)))
            if turned:
                axes.invert_yaxis()

        return draw, None

    assert common_limits([line([1, 2], [0, 5]), line([0, 1], [3, 9])]) == ((0, 2), (0, 9))
    assert common_limits([line([1, 2], [0, 5], turned=True)]) == ((1, 2), (5, 0))
    axes = []

    def keep(figure, run):
        axes.append(figure)

    render(keep, None, "svg", limits=((0, 2), (9, 0)), height=2)
    assert (axes[0].get_xlim(), axes[0].get_ylim()) == ((0, 2), (9, 0))
    assert axes[0].figure.get_size_inches().tolist() == [5, 2]


def test_a_dollar_in_a_name_is_a_dollar():
    svg = render(lambda axes, name: axes.set_xlabel(name), r"lr$\bad$ $x$", "svg")
    assert r"lr$\bad$ $x$" in svg.decode()
