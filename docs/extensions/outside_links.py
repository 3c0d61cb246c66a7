"""Links to the documentation of other libraries, known without asking the network.

Their pages are named after what they describe, so that an address can be written down
where intersphinx would fetch an inventory.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

PAGES = {
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{page}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{page}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{page}.html",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{page}.html",
    "skorch": "https://skorch.readthedocs.io/en/stable/{module}.html#{page}",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{page}.html",
}


def address(target: str) -> str | None:
    """Return where a name of another library is documented."""
    library, _, rest = target.partition(".")
    if library not in PAGES or not rest:
        return None
    return PAGES[library].format(page=target, module=rest.partition(".")[0])


def outside_link(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """Return a link in place of a reference that no page of ours resolves."""
    if node.get("refdomain") != "py" or (url := address(node["reftarget"])) is None:
        return None
    link = nodes.reference("", "", internal=False, refuri=url)
    link += contnode
    return link


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the links."""
    app.connect("missing-reference", outside_link)
    return {"parallel_read_safe": True}
