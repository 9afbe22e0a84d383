"""Links of a table's page: relative, to files that are there, and none where there is nothing."""

from reference_models.tables.finished import Run
from reference_models.tables.links import links_to_missing, links_to_runs
from tests.reference_models.tables.test_figures import run_folder
from tests.reference_models.tables.test_report import Elements


def test_every_run_has_links_to_its_files(tmp_path):
    runs = {row: [Run(run_folder(tmp_path / row / "seed-1", samples=12))] for row in ("a", "w o+b")}
    (part,) = links_to_runs(tmp_path, runs)
    found = Elements(part)
    assert found.links[0] == "a/seed-1/config.json"
    assert found.links[4:] == [
        f"w%20o%2Bb/seed-1/{name}"
        for name in ("config.json", "metrics.json", "history.csv", "predictions.csv")
    ]
    assert [text for text in found.texts if text.strip()][5:8] == ["a", "1", "2"]
    assert links_to_runs(tmp_path, {}) == []


def test_pages_of_what_is_missing_are_linked(tmp_path):
    folder = tmp_path / "missing"
    assert links_to_missing(folder) == []
    folder.mkdir()
    (folder / "frames-test.html").write_text("a")
    (part,) = links_to_missing(folder)
    assert Elements(part).links == ["missing/frames-test.html"]
