"""What the site does beyond Sphinx's own: docstrings of this house, links by name, the gallery."""

import base64
import html
import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import desc, pending_xref

import mmcontrast

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
NOTEBOOK = re.compile(r"\]\((?:\.\./)+(\d\d_\w+\.ipynb)\)")
CARD = re.compile(r"^\* \[(.+?)\]\(\.\./(\w+)\.ipynb\): (.+)$", flags=re.MULTILINE)
NOT_SHOWN = {"load_state_dict", "training"}  # of every Module, as torch documents them


def connect(app, root: Path) -> None:
    folder = Path(app.srcdir) / "gallery"
    folder.mkdir(exist_ok=True)
    for path in (root / "notebooks").glob("*.ipynb"):
        shutil.copyfile(path, folder / path.name)
    app.connect("source-read", linked_to_the_gallery)
    app.connect("doctree-read", in_both_themes, priority=400)
    app.connect("doctree-read", linked_to_arxiv)
    app.connect("doctree-read", linked_by_name)
    app.connect("missing-reference", found_in_the_package)
    app.connect("autodoc-skip-member", skipped)
    app.connect("autodoc-process-docstring", as_napoleon_reads_it, priority=400)
    app.connect("build-finished", with_pictures)
    app.connect("build-finished", with_readable_signatures)


def linked_to_the_gallery(app, page: str, source: list[str]) -> None:
    """Links to notebooks lead to their pages; on the gallery's own page they are cards."""
    if page == "gallery":
        source[0] = CARD.sub(card, source[0])
    elif page.startswith("gallery/"):  # a notebook, which lies beside the folder site
        source[0] = source[0].replace("](site/", "](../")
    else:
        source[0] = NOTEBOOK.sub(r"](/gallery/\1)", source[0])


def card(match: re.Match[str]) -> str:
    title, name, text = match.groups()
    return (
        f'<a class="card" href="gallery/{name}.html">'
        f'<img src="gallery/{name}.png" alt="" loading="lazy">'
        f"<strong>{html.escape(title)}</strong><span>{html.escape(text)}</span></a>\n"
    )


def first_picture(notebook: Path) -> bytes | None:
    """The first picture that a notebook shows."""
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode("".join(output["data"]["image/png"]))
    return None


def with_pictures(app, error: Exception | None) -> None:
    """The cards' pictures, beside the notebooks' pages."""
    if error is None:
        for path in (Path(app.srcdir) / "gallery").glob("*.ipynb"):
            picture = first_picture(path)
            if picture is not None:
                (Path(app.outdir) / "gallery" / f"{path.stem}.png").write_bytes(picture)


UNREADABLE = re.compile(r"&lt;function|object at 0x|Alias for field number")


def with_readable_signatures(app, error: Exception | None) -> None:
    """No page of the API shows a default by its address, or a field by its number.

    Raises:
        ValueError: names the pages.
    """
    pages = [] if error else (Path(app.outdir) / "api").glob("*.html")
    wrong = [path.name for path in pages if UNREADABLE.search(path.read_text())]
    if wrong:
        raise ValueError(f"expected names in signatures, got addresses: {', '.join(wrong)}")


def linked_to_arxiv(app, tree) -> None:
    """Every ``arXiv:1807.03748`` of a page or docstring is a link."""
    for text in list(tree.findall(nodes.Text)):
        inside = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title, nodes.raw)
        parent = text.parent
        while parent is not None and not isinstance(parent, inside):
            parent = parent.parent
        parts = ARXIV.split(text.astext())
        if parent is None and len(parts) > 1:
            new = [
                nodes.reference("", f"arXiv:{part}", refuri=f"https://arxiv.org/abs/{part}")
                if k % 2
                else nodes.Text(part)
                for k, part in enumerate(parts)
            ]
            text.parent.replace(text, new)


def skipped(app, what, name, member, skip, options) -> bool | None:
    """No "Alias for field number 0": a record's fields are in its docstring."""
    if type(member).__name__ == "_tuplegetter" or name in NOT_SHOWN:
        return True
    return None


def in_both_themes(app, tree) -> None:
    """Beside a picture ``NAME-light.svg`` its ``NAME-dark.svg``, of which the theme shows one."""
    for light in list(tree.findall(nodes.image)):
        if light["uri"].endswith("-light.svg"):
            dark = light.deepcopy()
            dark["uri"] = light["uri"].removesuffix("-light.svg") + "-dark.svg"
            light["classes"].append("only-light")
            dark["classes"].append("only-dark")
            parent = light.parent
            parent.insert(parent.index(light) + 1, dark)


OR = "/\u200b"  # may end a line, and is no space, at which a name would end
LISTED = re.compile(rf"^\s+(\w+(, |{OR}))*\w+,$")


def as_napoleon_reads_it(app, what, name, obj, options, lines: list[str]) -> None:
    """Sections as Napoleon takes them.

    Names listed over several lines are one item, what is before a colon need be no type, and
    references begin on a line of their own.
    """
    joined: list[str] = []
    for line in lines:
        if joined and LISTED.match(joined[-1]):
            names, colon, text = line.strip().partition(":")
            joined[-1] = f"{joined[-1]} {names}".replace(", ", OR) + colon + text
        elif joined and joined[-1].strip() == "Returns:":
            indent = len(line) - len(line.lstrip())
            joined.append(f"{' ' * indent}: {line.strip()}")
        elif line.startswith("References: "):
            joined += ["References:", f"    {line.removeprefix('References: ')}"]
        else:
            joined.append(line)
    if what in ("attribute", "property", "data") and joined and joined[0].strip():
        joined[0] = f": {joined[0]}"
    lines[:] = joined


def linked_by_name(app, tree) -> None:
    """A public name in code type is a link to its entry, so that pages stay plain Markdown."""
    for literal in list(tree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        inside = (nodes.reference, nodes.title, pending_xref, desc)
        parent = literal.parent
        while parent is not None and not isinstance(parent, inside):
            parent = parent.parent
        if name in mmcontrast.__all__ and (parent is None or isinstance(parent, desc)):
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=f"mmcontrast.{name}", refwarn=False
            )
            literal.parent.replace(literal, link)
            link += literal


def found_in_the_package(app, env, node, content):
    """A name that a docstring of a submodule means as ``from mmcontrast import ...`` gives it."""
    if node.get("refdomain") != "py" or node.get("reftarget", "").startswith("mmcontrast."):
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], f"mmcontrast.{node['reftarget']}",
        node, content,
    )  # fmt: skip
