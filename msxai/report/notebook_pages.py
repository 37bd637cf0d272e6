"""Executed notebooks as pages that run nothing and load nothing.

An output, a text or the metadata of a notebook can hold any HTML. The page keeps what shows text,
tables and pictures. Scripts, event handlers, widgets, frames and forms are removed. In addition,
the page's own policy forbids a browser to run a script.
"""

import hashlib
import re
from pathlib import Path

import nbformat
from markupsafe import Markup, escape
from nbconvert.preprocessors.sanitize import SanitizeHTML

from msxai.base import page_policy, provenance
from msxai.base.errors import StaleInputError
from msxai.report import formulas

__all__ = ["POLICY", "SHOWN", "page"]

POLICY = f"{page_policy.policy()}; font-src data:"
"""Content Security Policy of the pages: no source of scripts is allowed."""

SHOWN = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
)
"""Kinds of output that a page shows. Of one output it shows the first of these."""

_WIDGET = "application/vnd.jupyter.widget-view+json"
_TEXTS = "a abbr b blockquote br code dd del details div dl dt em figcaption figure hr i img kbd li"
_MORE_TEXTS = "main ol p pre q s samp small span strong sub summary sup u ul"
_TABLES = "caption col colgroup table tbody td tfoot th thead tr"
_TAGS = f"{_TEXTS} {_MORE_TEXTS} {_TABLES} h1 h2 h3 h4 h5 h6".split()
_ATTRIBUTES = {
    "*": ["class", "id", "style", "title", "align", "valign", "halign", "data-mime-type"],
    "a": ["href"],
    "img": ["src", "alt", "width", "height"],
    "table": ["border"],
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan", "scope"],
    "col": ["span"],
    "ol": ["start"],
    "details": ["open"],
}
_STYLES = "display margin max-width padding border vertical-align text-align width height"
_MORE_STYLES = "color background-color font-family font-size font-style font-weight white-space"
_CLEANER = SanitizeHTML(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    styles=f"{_STYLES} {_MORE_STYLES}".split(),
    strip=True,
)

_HEAD = re.compile(r"(?P<head>.*?)<body[^>]*>(?P<body>.*)</body>", re.DOTALL)
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
# Without "<" a style sheet cannot end its element, so it is nothing but a style sheet.
_STYLE = re.compile(r"<style\b[^>]*>(?P<sheet>[^<]*)</style\s*>", re.IGNORECASE)
_ANY_STYLE = re.compile(r"<style\b.*?</style\s*>", re.DOTALL | re.IGNORECASE)
# Pictures are taken out while the rest is cleaned: they are long, and their letters are harmless.
_PICTURE = re.compile(r'src="(data:image/(?:png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=\s]*)"')
_NOTEBOOK_LINK = re.compile(r'<a href="([^"]*)\.ipynb">(.*?)</a>')


def page(source, names: list[str], notice: str) -> str:
    """Return an executed notebook as HTML.

    Parameters
    ----------
    source : path
        The executed notebook.
    names : list of str
        Notebooks that have a page, without ".ipynb". Links to others become text.
    notice : str
        The first sentence of the page.

    Returns
    -------
    str
        One file with all its pictures. It runs no script and loads nothing from elsewhere.

    Raises
    ------
    StaleInputError
        The file is damaged, or no notebook.
    """
    notebook = _read(source)
    title = Path(source).stem
    urls = [name for name in formulas.Exporter.class_trait_names() if name.endswith("_url")]
    exporter = formulas.Exporter(embed_images=False, **dict.fromkeys(urls, ""))
    exported, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    parts = _HEAD.match(exported)
    body, sheets = _clean(parts["body"])
    body = _NOTEBOOK_LINK.sub(lambda link: _page_link(link, names), body)
    head = _LINK.sub("", _SCRIPT.sub("", parts["head"]))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = head.replace("<head>", f"<head>{policy}", 1).replace("</head>", f"{sheets}</head>", 1)
    opening = '<body class="jp-Notebook" data-jp-theme-light="true">'
    return f"{head}{opening}<p><b>{escape(notice)}</b></p>{body}</body></html>\n"


def _read(source):
    """Return an executed notebook without what a page does not show."""
    try:
        notebook = nbformat.read(source, as_version=4)
        _drop_what_is_not_shown(notebook)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat fails in many ways on a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StaleInputError(
            provenance.relative(source),
            f"a damaged notebook ({reason})",
            "an executed notebook, as papermill wrote it",
            "Run this notebook again. Or delete the file: it then has no page.",
        ) from error
    return notebook


def _drop_what_is_not_shown(notebook) -> None:
    """Remove outputs and metadata that a page does not show, bars of progress among them."""
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "ipython"}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if "attachments" in cell:
            cell.attachments = nbformat.from_dict(_pictures(cell.attachments))
        outputs = []
        for output in cell.get("outputs", []):
            if "data" not in output:
                outputs.append(output)
                continue
            if _WIDGET in output.data:
                continue
            output.metadata = nbformat.from_dict({})
            output.data = {kind: output.data[kind] for kind in SHOWN if kind in output.data}
            if output.data:
                outputs.append(output)
        if "outputs" in cell:
            cell.outputs = outputs


def _pictures(attachments) -> dict:
    """Return the attachments of a cell that are pictures: name to {kind: text}."""
    pictures = {}
    for name, kinds in dict(attachments).items():
        formats = [kind for kind in SHOWN if kind.startswith("image/") and kind in kinds]
        texts = {kind: kinds[kind] for kind in formats}
        if texts and all(isinstance(text, str) for text in texts.values()):
            pictures[name] = texts
    return pictures


def _clean(body: str) -> tuple[str, str]:
    """Return the body with harmless HTML only, and the style sheets that its outputs bring."""
    body = _SCRIPT.sub("", body)
    sheets = "".join(f"<style>{style['sheet']}</style>" for style in _STYLE.finditer(body))
    body = _ANY_STYLE.sub("", body)
    # No text can hold the name of a place, because the name depends on the whole text.
    mark = f"picture-{hashlib.sha256(body.encode()).hexdigest()}"
    pictures = []

    def put_aside(match):
        pictures.append(match[1])
        return f'src="{mark}-{len(pictures) - 1}"'

    def put_back(match):
        return f'src="{pictures[int(match[1])]}"'

    body = _CLEANER.sanitize_html_tags(_PICTURE.sub(put_aside, body))
    return re.sub(rf'src="{mark}-(\d+)"', put_back, body), sheets


def _page_link(link: re.Match, names: list[str]) -> Markup | str:
    """A link to a notebook as one to its page; its text alone where it was not executed."""
    target, text = link.groups()
    for name in names:
        if name.startswith(target):
            return f'<a href="{escape(name)}.html">{text}</a>'
    return text
