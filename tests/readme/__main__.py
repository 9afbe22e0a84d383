"""Write the parts of README.md and of the site's pages that are generated, and draw the pictures.

``--bench DIR`` first takes the figures of a run of ``make bench`` from DIR, its ``--out``;
``--measured ENCODER DIR`` keeps the finished runs in DIR, TABLE/ROW/seed-N each, for the table of
that text encoder, and ``--missing DIR`` the curves of ``reproduce --missing`` in DIR, MODEL each.
"""

import argparse
import sys
from pathlib import Path

from tests.readme import drawing, measuring, missing, page, speed


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.readme", description=__doc__)
    parser.add_argument("--bench", type=Path, metavar="DIR", help="a folder with a bench.json")
    parser.add_argument("--measured", nargs=2, metavar=("ENCODER", "DIR"), help="finished runs")
    parser.add_argument("--missing", type=Path, metavar="DIR", help="tables with their curves")
    options = parser.parse_args()
    if options.measured is not None:
        encoder, folder = options.measured
        for key in measuring.add(encoder, Path(folder)):
            sys.stdout.write(f"kept: {key.row}, seed {key.seed}\n")
    if options.missing is not None:
        sys.stdout.write(f"kept: {', '.join(missing.add(options.missing))}\n")
    if options.bench is not None:
        speed.store(options.bench / "bench.json")
    for name, picture in page.PICTURES.items():
        word = picture.word()
        if drawing.is_stale(picture.folder, name, word):
            drawing.draw(picture.folder, name, picture.draw, word)
            sys.stdout.write(f"drawn: {name}\n")
    for path in page.PAGES:
        text = path.read_text()
        new = page.render(text)
        if new != text:
            path.write_text(new)
            sys.stdout.write(f"written: {path.relative_to(page.ROOT)}\n")


if __name__ == "__main__":
    main()
