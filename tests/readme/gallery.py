"""The list of notebooks: each one's title and first sentence."""

import json
import re

from tests.notebooks import NOTEBOOKS


def notebooks() -> str:
    rows = []
    for path in NOTEBOOKS:
        text = "".join(json.loads(path.read_text())["cells"][0]["source"])
        title, first = re.fullmatch(
            r"# (.+?)\n\n(.+?[.?!])(\s.*)?", text, flags=re.DOTALL
        ).groups()[:2]
        rows.append(f"* [{title}](../{path.name}): {' '.join(first.split())}")
    return "\n".join(rows)
