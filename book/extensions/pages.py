"""What the book does to its pages while they are built.

Names of the package's functions in the prose become links to their API entry, without markup that Colab would show:
`msdm_lite.separate`, `sampling.State` and `denoise(x, sigma)` in backticks are looked up as they stand, under the
package, under their room, and by their last part where that names one thing alone. And Thebe's scripts are left out:
nothing here uses it, it is loaded from another site, and it is declared twice, which is an error in every page. Long
names (files, signatures) may break anywhere, or a narrow phone would have to scroll sideways. A link to another chapter
that a cell printed names the notebook, as it must in Jupyter; in the page it leads to the other page.
"""

import re
from pathlib import PurePosixPath

from docutils import nodes


def entries(env) -> dict:
    """Every way to name an entry of the API pages: name -> (page, anchor)."""
    found, last = {}, {}
    for name, entry in env.get_domain("py").objects.items():
        place = entry.docname, entry.node_id
        found[name] = found[name.removeprefix("msdm_lite.")] = place
        if name.count(".") > 2:  # package, room, module and what it holds
            found.setdefault(name.split(".", 2)[2], place)
        if entry.objtype in ("function", "class", "exception"):
            last.setdefault(name.rsplit(".", 1)[-1], set()).add(place)
    return {name: places.copy().pop() for name, places in last.items() if len(places) == 1} | found


def link(app, doctree, page) -> None:
    names = entries(app.env)
    for literal in list(doctree.findall(nodes.literal)):
        name = re.sub(r"\(.*\)$", "", literal.astext())
        where, anchor = names.get(name, (page, ""))
        if where == page or isinstance(literal.parent, nodes.reference):
            continue
        address = f"{app.builder.get_relative_uri(page, where)}#{anchor}"
        reference = nodes.reference("", "", internal=True, refuri=address)
        literal.replace_self(reference)
        reference += literal


def to_pages(app, doctree, page) -> None:
    for reference in doctree.findall(nodes.reference):
        chapter, _, anchor = reference.get("refuri", "").partition("#")
        other = str(PurePosixPath(page).parent / chapter.removesuffix(".ipynb"))
        if chapter.endswith(".ipynb") and other in app.env.found_docs:
            reference["refuri"] = app.builder.get_relative_uri(page, other) + (f"#{anchor}" if anchor else "")


STYLE = ("<style>code.literal, dl.py, dl.field-list { overflow-wrap: anywhere } "
         "code.literal span.pre { white-space: normal }</style>")


def with_names_that_break(app, page, template, context, doctree) -> None:
    context["metatags"] = context.get("metatags", "") + STYLE


def without_thebe(app, page, template, context, doctree) -> None:
    def said(script) -> str:
        return f"{script} {getattr(script, 'filename', '')} {getattr(script, 'attributes', '')}".lower()

    context["script_files"] = [script for script in context.get("script_files", []) if "thebe" not in said(script)]


def setup(app) -> dict:
    app.connect("doctree-resolved", link)
    app.connect("doctree-resolved", to_pages)
    app.connect("html-page-context", with_names_that_break)
    app.connect("html-page-context", without_thebe, priority=900)  # after those who add scripts
    return {"parallel_read_safe": True, "parallel_write_safe": True}
