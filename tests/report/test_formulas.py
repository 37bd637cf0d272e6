"""Formulas in the pages of executed notebooks."""

import base64
import re

import jupytext
import nbformat
import pytest

import msxai
from msxai.report import formulas

NOTEBOOKS = sorted((msxai.ROOT / "notebooks").glob("*.py"))


def pictures(page):
    return re.findall(r'<img alt="([^"]*)" style="([^"]*)" src="data:image/svg\+xml;base64,', page)


def test_a_formula_becomes_a_picture_with_its_text():
    page = formulas.drawn(r"a score $\sigma(z)$ of" + "\n" + r"$$\frac{a}{b} &gt; 1$$")
    inline, block = pictures(page)
    assert inline[0] == r"$\sigma(z)$"
    assert "vertical-align" in inline[1]
    assert block[0] == r"$\frac{a}{b} &gt; 1$"
    assert "display: block" in block[1]
    assert "$$" not in page
    data = re.search(r"base64,([^\"]*)", page)[1]
    assert b"<svg" in base64.b64decode(data)


NO_FORMULAS = {
    "code": "<code>$HOME and $OUT</code>",
    "a dollar": "5 $",
    "a word": r"$\unknown{x}$",
    "braces": "$" + "{" * 1900 + "$",
    "fractions": "$" + r"\frac{1}{" * 60 + "x" + "}" * 60 + "$",
    "a long text": "$" + "a+" * 20_000 + "b$",
}


@pytest.mark.parametrize("text", NO_FORMULAS.values(), ids=NO_FORMULAS)
def test_what_is_no_formula_stays(text):
    assert formulas.drawn(text) == text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_formula_of_a_notebook_is_left(path):
    cells = [cell for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]
    page, _ = formulas.Exporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    body = page[page.index("<body") :]
    body = re.sub(r"<script.*?</script>|<code.*?</code>|alt=\"[^\"]*\"", "", body, flags=re.DOTALL)
    assert "$" not in body
