"""Formulas of an executed notebook, drawn into its page, which loads no program that could."""

import base64
import html
import io
import re

from jinja2 import pass_context
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook

__all__ = ["Exporter", "drawn"]

_FONT = FontProperties(size=12, math_fontfamily="cm")  # the size of the page's text
_LONGEST = 2000  # characters of a formula; matplotlib draws about a thousand a second
_CODE = r"<code\b.*?</code>"
_FORMULA = re.compile(rf"{_CODE}|\$\$(?P<block>.+?)\$\$|\$(?P<inline>.+?)\$", re.DOTALL)


class Exporter(HTMLExporter):
    """nbconvert's exporter, with pictures in place of the formulas in texts."""

    @pass_context
    def markdown2html(self, context, source):
        """Convert the text of a cell; where a picture is missing, return it as it was written."""
        try:
            return drawn(super().markdown2html(context, source))
        except InvalidNotebook:
            return f"<pre>{html.escape(source)}</pre>"


def drawn(page: str) -> str:
    """Return HTML whose formulas, written in TeX between dollars, are pictures.

    matplotlib draws them. What it cannot read stays TeX, as do a dollar in code, braces that are
    nested too deeply and a text of more than 2,000 characters.

    Examples
    --------
    >>> from msxai.report import formulas
    >>> formulas.drawn("the logit $f(x)$")[:27]
    'the logit <img alt="$f(x)$"'
    """
    return _FORMULA.sub(_picture, page)


def _picture(match: re.Match) -> str:
    """Return a formula as a picture that stands on the line of the text."""
    tex = match["block"] or match["inline"]
    if tex is None or len(tex) > _LONGEST:
        return match[0]
    formula = f"${' '.join(html.unescape(tex).split())}$"
    readable = formula
    if match["block"]:
        readable = readable.replace(r"\frac", r"\dfrac")
    readable = readable.replace(r"\tfrac", r"\frac")  # mathtext's name of a small one
    picture = io.BytesIO()
    try:
        depth = mathtext.math_to_image(readable, picture, prop=_FONT, format="svg")
    except (ValueError, RecursionError):  # no TeX that it knows, or too many braces
        return match[0]
    data = base64.b64encode(picture.getvalue()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    style = f"display: inline; vertical-align: -{depth:.1f}pt"
    if match["block"]:
        style = "display: block; margin: auto"
    return f'<img alt="{html.escape(formula)}" style="{style}" src="{source}">'
