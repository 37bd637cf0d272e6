"""Pages of executed notebooks: whatever a notebook holds, its page runs and loads nothing."""

import json
import re

import nbformat
import pytest

from msxai.base.errors import StaleInputError
from msxai.report import notebook_pages

RUN = 'document.title = "broken in"'
SCRIPT = f"<script>{RUN}</script>"
HANDLER = f"<img src=x onerror='{RUN}'>"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
)
SVG = f"<svg xmlns=\"http://www.w3.org/2000/svg\" onload='{RUN}'><script>{RUN}</script></svg>"
HTML = [
    SCRIPT,
    f'<script src="https://example.org/a.js"></script><SCRIPT>{RUN}</SCRIPT >',
    f"<scr<script></script>ipt>{RUN}</script>",
    HANDLER,
    f"<b onmouseover='{RUN}' style='color: red'>shown</b>",
    f"<body onload='{RUN}'>",
    f"</main></body><body onload='{RUN}'>{SCRIPT}",
    f"<iframe srcdoc='{SCRIPT}'></iframe>",
    f"<a href='javascript:{RUN}'>link</a>",
    f"<a href='&#106;avascript:{RUN}'>link</a>",
    SVG,
    f"<math><mtext><table><mglyph><style><!--</style>{HANDLER}",
    f"<style><!--</style>{SCRIPT}-->",
    f"<style></style{HANDLER}",
    f"<noscript><p title='</noscript>{SCRIPT}'></noscript>",
    "<form action='https://example.org'><button>send</button></form>",
    "<meta http-equiv='refresh' content='0; url=https://example.org'><base href='//example.org'>",
    "<link rel='stylesheet' href=https://example.org/a.css>",
    "<object data='x.swf'></object><embed src='x.swf'>",
]


def output(data, metadata=None, kind="display_data"):
    return nbformat.v4.new_output(kind, data, metadata=metadata or {})


def cell(*outputs, source="scores", **more):
    made = nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1)
    made.update(nbformat.from_dict(more))
    return made


def text(source, **more):
    made = nbformat.v4.new_markdown_cell(source)
    made.update(nbformat.from_dict(more))
    return made


def odd_cells():
    """Cells by the place in which HTML stands."""
    javascript = {"application/javascript": RUN, "text/plain": "a plot"}
    state = {"application/vnd.jupyter.widget-view+json": {"model_id": SCRIPT}}
    error = {"output_type": "error", "ename": HANDLER, "evalue": SCRIPT, "traceback": [SCRIPT]}
    stream = {"output_type": "stream", "name": "stderr", "text": f"warned {SCRIPT}"}
    places = {
        f"output {number}": cell(output({"text/html": html})) for number, html in enumerate(HTML)
    }
    places |= {f"text {number}": text(html) for number, html in enumerate(HTML)}
    places |= {
        "JavaScript": cell(output(javascript)),
        "widget": cell(output(state)),
        "markdown": cell(output({"text/markdown": f"*shown* {SCRIPT}\n\n{HANDLER}"})),
        "link": text(f"[link](javascript:{RUN.replace(' ', '')})"),
        "formula": text(f"$x$ {SCRIPT} $${HANDLER}$$"),
        "LaTeX": cell(output({"text/latex": SCRIPT})),
        "plain": cell(output({"text/plain": SCRIPT})),
        "SVG": cell(output({"image/svg+xml": SVG})),
        "mermaid": cell(output({"text/vnd.mermaid": f"</pre>{SCRIPT}"})),
        "base64": cell(output({"image/png": f"\"><img src=x onerror='{RUN}' class=\""})),
        "size": cell(output({"image/png": PIXEL}, {"image/png": {"width": f"1 onload='{RUN}'"}})),
        "file": cell(output({"image/png": PIXEL}, {"filenames": {"image/png": f'">{SCRIPT}'}})),
        "source": cell(source=f"print('{SCRIPT}')"),
        "error": cell(nbformat.from_dict(error)),
        "stream": cell(nbformat.from_dict(stream)),
        "tags": text("tagged", metadata={"tags": [f'">{SCRIPT}']}),
        "raw": nbformat.v4.new_raw_cell(SCRIPT),
        "attachment": text(
            "![a](attachment:a.png)", attachments={"a.png": {"image/png": f'">{SCRIPT}'}}
        ),
    }
    return places


PLACES = odd_cells()


def write(folder, cells, name="04_evaluation"):
    """An executed notebook as JSON: nbformat would refuse to write some of these."""
    metadata = {"title": f"</title>{SCRIPT}", "language_info": {"name": f'">{SCRIPT}'}}
    metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": SCRIPT}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(whole))
    return path


def harmless(page):
    """Whether no tag of the page can run, load or send anything."""
    body = page[page.index("<body") :]
    tags = re.findall(r"<[a-zA-Z/][^>]*>", body)
    forbidden = r"<(script|iframe|object|embed|form|svg|math|base|meta|link|style)\b"
    asks = [tag for tag in tags if re.match(forbidden, tag, re.IGNORECASE)]
    asks += [tag for tag in tags if re.search(r"\son\w+\s*=", re.sub(r'"[^"]*"', '""', tag))]
    asks += [
        tag for tag in tags if re.search(r'(src|href)="(?!data:image|https?:|#|[\w.-]+")', tag)
    ]
    return not asks and "<script" not in page.lower()


@pytest.mark.parametrize("place", PLACES)
def test_no_page_holds_a_script(tmp_path, place):
    page = notebook_pages.page(write(tmp_path, [PLACES[place]]), [], "Research software.")
    assert harmless(page), page[page.index("<body") :]
    assert page.count("<b>Research software.</b>") == 1


def test_no_policy_lets_a_script_run(tmp_path):
    page = notebook_pages.page(write(tmp_path, []), [], "")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page[:300])[1]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "eval" not in policy


def test_a_browser_runs_nothing(tmp_path, browse):
    """Not even without the policy, which some programs that show pages do not know."""
    page = notebook_pages.page(write(tmp_path, list(PLACES.values())), [], "Research software.")
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert without != page
    for content in (page, without):
        path = tmp_path / "page.html"
        path.write_text(content)
        document = browse(path)
        assert "<title>04_evaluation</title>" in document
        assert "<b>Research software.</b>" in document


def test_the_policy_alone_stops_a_script(tmp_path, browse):
    """Where cleaning had a hole, the browser would still run nothing."""
    page = notebook_pages.page(write(tmp_path, []), [], "")
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", f"{SCRIPT}{HANDLER}</body>"))
    assert "<title>04_evaluation</title>" in browse(path)


TABLE = """<div><style scoped>.dataframe th { vertical-align: top; }</style>
<table border="1" class="dataframe"><thead><tr style="text-align: right;"><th>AUC</th></tr></thead>
<tbody><tr><td colspan="2">0.9</td></tr></tbody></table></div>"""


def test_tables_pictures_and_formulas_stay(tmp_path):
    cells = [
        text(
            "# Evaluated\n\nthe logit $f(x)$, [next](05_lrp_heatmaps.ipynb)"
            "\n\n| a | b |\n|-|-|\n| 1 | 2 |"
        ),
        cell(output({"text/html": TABLE, "text/plain": "AUC"}, kind="execute_result")),
        cell(output({"image/png": PIXEL, "text/plain": "<Figure>"})),
        cell(output({"image/svg+xml": SVG})),
        cell(nbformat.v4.new_output("stream", name="stderr", text="warned")),
    ]
    page = notebook_pages.page(write(tmp_path, cells), ["05_lrp_heatmaps_a"], "")
    formula = re.search(r'<img alt="\$f\(x\)\$"[^>]*>', page)[0]
    assert 'src="data:image/svg+xml;base64,' in formula
    assert re.search(r'style="display: inline; vertical-align: -[\d.]+pt;?"', formula)
    assert '<a href="05_lrp_heatmaps_a.html">next</a>' in page
    assert re.search(r'<h1 id="Evaluated">', page)
    assert '<tr style="text-align: right;">' in page
    assert '<table border="1" class="dataframe">' in page
    assert '<td colspan="2">0.9</td>' in page
    assert "<style>.dataframe th { vertical-align: top; }</style></head>" in page
    assert f'src="data:image/png;base64,{PIXEL}"' in page
    assert 'src="data:image/svg+xml;base64,' in page
    assert 'data-mime-type="application/vnd.jupyter.stderr"' in page
    assert re.search(r"<td>1</td>\s*<td>2</td>", page)


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "text/markdown"])
def test_no_text_is_taken_for_the_place_of_a_picture(tmp_path, kind):
    written = '<img src="picture-99"> <img src="picture-0">'
    cells = [cell(output({"image/png": PIXEL})), cell(output({kind: written}))]
    cells += [text(written), cell(source=f"page = '{written}'")]
    page = notebook_pages.page(write(tmp_path, cells), [], "")
    assert page.count(f'src="data:image/png;base64,{PIXEL}"') == 1
    assert "picture-99" in page


@pytest.mark.parametrize(
    "attachments",
    [{}, {"a.png": {}}, {"b.png": {"image/png": PIXEL}}, {"a.png": {"text/html": SCRIPT}}],
)
def test_a_text_with_a_missing_picture_is_shown_as_written(tmp_path, attachments):
    written = f"![a](attachment:a.png) {SCRIPT}"
    page = notebook_pages.page(write(tmp_path, [text(written, attachments=attachments)]), [], "")
    assert "![a](attachment:a.png)" in page
    assert harmless(page)


def test_an_attached_picture_is_shown(tmp_path):
    attached = text("![a](attachment:a.png)", attachments={"a.png": {"image/png": PIXEL}})
    page = notebook_pages.page(write(tmp_path, [attached]), [], "")
    assert f'src="data:image/png;base64,{PIXEL}"' in page


def test_a_bar_of_progress_is_not_shown(tmp_path):
    bar = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "0%|    |"}
    page = notebook_pages.page(write(tmp_path, [cell(output(bar))]), [], "")
    assert "0%|" not in page


@pytest.mark.parametrize("field", [{"execution_count": HANDLER}, {"id": f'">{SCRIPT}'}])
def test_what_is_no_notebook_is_refused(tmp_path, field):
    path = write(tmp_path, [cell(**field)])
    with pytest.raises(StaleInputError, match=r"04_evaluation\.ipynb: found a damaged notebook"):
        notebook_pages.page(path, [], "")


NOTEBOOK = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": '
DAMAGE = {
    "nothing": "",
    "half": NOTEBOOK,
    "list": "[]",
    "group": "{}",
    "brackets": "[" * 200_000,
    "version": '{"nbformat": 99, "cells": []}',
    "cells": NOTEBOOK + "{}}",
    "a cell": NOTEBOOK + "[5]}",
    "a text": NOTEBOOK + '[{"cell_type": "markdown", "metadata": {}, "source": 5}]}',
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_notebook_is_one_sentence(tmp_path, name):
    path = tmp_path / "04_evaluation.ipynb"
    path.write_text(DAMAGE[name])
    with pytest.raises(StaleInputError, match=r"found a damaged notebook \(") as caught:
        notebook_pages.page(path, [], "")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [5, None, [["a"]], {"a": 1}])
def test_an_output_that_is_no_text_is_one_sentence(tmp_path, value):
    path = write(tmp_path, [cell(output({"text/html": "words"}))])
    text = path.read_text()
    assert text.count('"words"') == 1
    path.write_text(text.replace('"words"', json.dumps(value)))
    with pytest.raises(StaleInputError, match="is not valid under any of the given schemas"):
        notebook_pages.page(path, [], "")
