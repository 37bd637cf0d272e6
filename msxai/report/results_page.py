"""The results page: our numbers beside the paper's, which claims hold, all items with their figure, and the executed notebooks."""

import base64
import html
import json
import re
import string
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from nbconvert import HTMLExporter

from msxai.base import paper_results, provenance, tsv
from msxai.base.notices import NOTICE, SYNTHETIC
from msxai.report import claims

MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc": "AUC",
}
ITEMS = {
    1: "Cohort",
    2: "Lesion distribution, patients and controls",
    3: "Lesion volume by white-matter tract",
    4: "Pre-training: curves and first-layer filters",
    5: "Results, comparison and calibration",
    6: "ROC curves",
    7: "Heatmaps of single patients",
    8: "Heatmaps of single controls",
    9: "Mean heatmap of patients and of controls",
    10: "Mean heatmap of true positives and of true negatives",
    11: "Relevance by white-matter tract",
    12: "Relevance by grey-matter area",
    13: "Relevance with and without lesions",
    14: "Attribution methods and states of the model",
}
OWN = "09_results_page"
CLASSES = {
    claims.HOLDS: "holds",
    claims.FAILS: "fails",
    claims.UNSURE: "unsure",
    claims.UNTESTED: "untested",
}
LIMITS = [
    "Whether any claim holds for people: the simulated subjects have only the differences that were put into them.",
    "Where multiple sclerosis shows in real brains: lesions lie where the simulation's maps put them, so that relevance found there says"
    " that the method finds what was planted, no more.",
    "Whether tissue without visible lesions carries a signal: only what the simulation changes there can be found.",
    "How well a network does on real scans, or whether pre-training on real Alzheimer's scans helps: both cohorts are simulated.",
    "What scanners, protocols and processing do: of these the simulation has a site effect at most.",
    "Relations to EDSS, age and sex as they are in patients: these columns are drawn by the simulation.",
]
REAL = [
    "Anything beyond this cohort: intervals are over its subjects.",
    "Causes: relevance shows what a network uses, not what the disease does.",
]
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data: blob:; font-src data:; media-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)  # an executed notebook loads nothing from elsewhere, whatever its outputs ask for


def write(where, path=None, variant: str = "pretrained", filled: str = "lesion-filled") -> Path:
    """Write the results page from saved tables, figures and executed notebooks; what is not there is named with the reason.

    Parameters
    ----------
    where : msxai.base.results.Results
        Its folder is read: evaluation, regions, quality, figures, notebooks, pretraining, prepared.
    path : path, optional
        Folder of the pages, by default ``<results>/report``; other files in it stay.
    variant, filled : str
        The network whose relevance is looked at, and the one trained on lesion-filled scans.

    Returns
    -------
    pathlib.Path
        index.html, written last: one file with all pictures in it, that loads nothing from elsewhere; the notebooks' pages beside it.
    """
    folder = where.folder / "report" if path is None else Path(path)
    found, paper = claims.read(where, variant, filled), paper_results.read()
    about = _about(where)
    told = {
        "cohort": html.escape(about["cohort"]),
        "notice": f"{about['says']} {NOTICE}",
        "made": html.escape(about["made"]),
        **_claims(claims.table(found)),
        "scores": _scores(found["scores"], paper),
        "further": _further(found["scores_further"]),
        "compared": _compared(found["comparison"]),
        "others": _others(where, paper),
        "left_out": "".join(
            _paragraph(f"Left out: {row.what}, as {row.reason}")
            for row in found["left_out"].itertuples()
        ),
        "items": "".join(_item(number, where, found) for number in ITEMS),
        "limits": _limits(about["synthetic"]),
        "notebooks": _notebooks(where, folder, f"{about['says']} {NOTICE}"),
    }
    page = string.Template(
        (resources.files("msxai.report") / "report.html").read_text(encoding="utf-8")
    ).substitute(told)
    with provenance.replacing(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _about(where) -> dict:
    """Name of the cohort, whether it is synthetic (None where no record says so), and when it was evaluated, from provenance records."""
    evaluated = _json(where.evaluation() / "provenance.json")
    name = evaluated.get("parameters", {}).get("cohort", "")
    record = _json(where.record(name)) if name else {}
    synthetic = record.get("synthetic")
    unknown = "Not recorded whether these subjects are synthetic: take them for no patients."
    made = (
        f"Evaluated {evaluated['written'][:10]}, commit {str(evaluated['commit'])[:10]}."
        if {"written", "commit"} <= set(evaluated)
        else ""
    )
    return {
        "cohort": name or "no evaluation yet",
        "synthetic": synthetic,
        "made": made,
        "says": unknown if synthetic is None else SYNTHETIC if synthetic else "",
    }


def _claims(table: pd.DataFrame) -> dict:
    """The claims' table and how many have which verdict."""
    rows = []
    for row in table.itertuples():
        what, number = row.quantity or row.reason, ""
        if row.verdict != claims.UNTESTED:
            number = (
                f"{_significant(row.value)} [{_significant(row.low)} to {_significant(row.high)}]"
            )
            number += f"<small>null {row.null:g}, {row.subjects:.0f} subjects</small>"
        verdict = f'<td class="verdict {CLASSES[row.verdict]}">{row.verdict}</td>'
        rows.append(
            f'<tr><td>{html.escape(row.claim)}</td>{verdict}<td class="number">{number}</td><td>{html.escape(what)}</td></tr>'
        )
    counts = table["verdict"].value_counts().reindex(CLASSES, fill_value=0)
    head = _head(
        ["Claim", "On this cohort", "Value [95 % interval]", "What was measured, or why not"]
    )
    said = ", ".join(f"{name}: {count}" for name, count in counts.items())
    return {
        "claims": f"<table>{head}<tbody>{''.join(rows)}</tbody></table>",
        "counts": f"{said} (a row a region where a claim names several).",
    }


def _scores(scores: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Each model of ours or the paper's; here and paper, measure by measure."""
    printed = paper[paper["section"] == "holdout"]
    theirs = printed.set_index(["variant", "quantity"])
    names = printed.drop_duplicates("variant").set_index("variant")["description"]
    ours = scores.set_index("variant") if len(scores) else pd.DataFrame()
    rows = []
    for variant in dict.fromkeys([*names.index, *ours.index]):
        cells = (
            f"<td>{html.escape(variant)}<small>{html.escape(names.get(variant, ''))}</small></td>"
        )
        for measure in MEASURES:
            cells += f'<td class="number">{_ours(ours.loc[variant], measure) if variant in ours.index else "–"}</td>'
            cells += f'<td class="number paper">{_theirs(theirs.loc[(variant, measure)]) if (variant, measure) in theirs.index else "–"}</td>'
        rows.append(f"<tr>{cells}</tr>")
    groups = "".join(f'<th colspan="2">{name}</th>' for name in MEASURES.values())
    head = f'<thead><tr><th rowspan="2">Model</th>{groups}</tr><tr>{"<th>here</th><th>paper</th>" * len(MEASURES)}</tr></thead>'
    note = (
        ""
        if len(scores)
        else _paragraph(
            "None of ours: no evaluation/scores.tsv, 04_evaluation has not run.", "reason"
        )
    )
    return f"{note}<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _ours(row: pd.Series, measure: str) -> str:
    value, least, most, low, high = (
        100 * row[measure + end] for end in ("", "_min", "_max", "_low", "_high")
    )
    spread = f" ({least:.1f}–{most:.1f})" if row["trials"] > 1 else ""
    return f"{value:.1f}{spread}<small>[{low:.1f}–{high:.1f}]</small>"


def _theirs(row: pd.Series) -> str:
    return f"{row['mean']:.1f}" + (
        f" ({row['low']:.1f}–{row['high']:.1f})" if pd.notna(row["low"]) else ""
    )


def _further(scores: pd.DataFrame) -> str:
    """The same models on further simulated subjects, which the paper has no counterpart to."""
    if scores.empty:
        return ""
    rows = [
        [row["variant"], *((_ours(row, measure),) for measure in MEASURES)]
        for _, row in scores.iterrows()
    ]
    count = (
        f"{scores['patients'].iloc[0]:.0f} patients and {scores['controls'].iloc[0]:.0f} controls"
    )
    return f'<h3>Further simulated subjects ({count}; %)</h3><div class="scroll">{_table(["Model", *MEASURES.values()], rows)}</div>'


def _compared(compared: pd.DataFrame) -> str:
    if compared.empty:
        return _paragraph("None: no evaluation/comparison.tsv.", "reason")
    rows = []
    for row in (
        compared[compared["measure"] == "auc_difference"].dropna(subset=["value"]).itertuples()
    ):
        interval = (
            f"[{100 * row.low:+.1f} to {100 * row.high:+.1f}]"
            if np.isfinite(row.low)
            else "[no variance]"
        )
        p = f"{row.p:.2g}" if np.isfinite(row.p) else "–"
        rows.append(
            [row.part, row.variant, row.reference, (f"{100 * row.value:+.1f} {interval}",), (p,)]
        )
    text = "Paired difference in AUC (percentage points) with its 95 % interval and two-sided p (DeLong), not corrected for their number."
    table = _table(["Subjects", "Model", "less", "Difference", "p"], rows)
    return f"{_paragraph(text)}<details><summary>{len(rows)} comparisons</summary>{table}</details>"


def _others(where, paper: pd.DataFrame) -> str:
    """Cohort and pre-training; ours from the source table of figure 1 and the histories of the trials."""
    drawn, ours = _tsv(where.figures() / "fig01_cohort.tsv"), {}
    for row in drawn[drawn["part"] != "paper"].itertuples() if len(drawn) else ():
        ours[row.part, row.group, row.quantity] = row
    parts = {
        "cohort": ("all",),
        "cohort training": ("training", "validation"),
        "cohort holdout": ("holdout",),
    }
    histories = [
        _tsv(path)
        for path in sorted(where.trial("pretraining", 0).parent.glob("trial-*/history.tsv"))
    ]
    best = [
        100 * history["val_accuracy"].max() for history in histories if "val_accuracy" in history
    ]
    rows = []
    for row in paper[paper["section"] != "holdout"].itertuples():
        own = [
            ours[key]
            for part in parts.get(row.section, ())
            if (key := (part, row.variant, row.quantity)) in ours
        ]
        here = "–"
        if own and row.quantity == "subjects":  # the paper counts training and validation together
            here = _spread(sum(part.mean for part in own))
        elif own and pd.notna(own[0].mean):
            here = _spread(own[0].mean, own[0].sd, own[0].min, own[0].max)
        if row.section == "pretraining" and best:
            sd = np.std(best, ddof=1) if len(best) > 1 else np.nan
            here = f"{_spread(np.mean(best), sd)}<small>best epoch of {len(best)} trial{'s' if len(best) > 1 else ''}</small>"
        unit = f" ({row.unit})" if isinstance(row.unit, str) else ""
        quantity = row.quantity.replace("_", " ").replace("val ", "validation ") + unit
        group = (
            row.description if row.section == "pretraining" else f"{row.variant}: {row.description}"
        )
        rows.append(
            [row.section, group, quantity, (here,), (_spread(row.mean, row.sd, row.low, row.high),)]
        )
    return _table(
        ["", "Group", "Quantity", "Here: mean ± SD (range)", "Paper: mean ± SD (range)"], rows
    )


def _item(number: int, where, found: dict) -> str:
    """An item's heading and its figures, or the reason why there are none."""
    pictures = sorted(where.figures().glob(f"fig{number:02d}[a-z_]*.png"))
    text = f'<h3 id="item-{number}">{number} · {html.escape(ITEMS[number])}</h3>'
    if not pictures:
        return text + _paragraph(f"Left out: {_reason(number, where, found)}", "reason")
    for picture in pictures:
        name, source = html.escape(picture.stem), base64.b64encode(picture.read_bytes()).decode()
        text += f'<figure><img alt="{name}" src="data:image/png;base64,{source}"><figcaption>{name}</figcaption></figure>'
    return text + "\n"


def _reason(number: int, where, found: dict) -> str:
    """Why an item has no figure: the first thing it needs that is not there."""
    relevance, lesions, variant = found["relevance"], found["lesions"], found["variant"]
    regions = (relevance.empty, f"06_region_relevance has not run for {variant}.")
    tracts = (
        relevance.empty or "tracts" not in set(relevance["atlas"]),
        "the tracts' atlas (JHU) is not here.",
    )
    evaluated = (found["scores"].empty, "04_evaluation has not run.")
    heatmaps = (
        not (where.heatmaps(variant) / "heatmaps.tsv").is_file(),
        f"05_lrp_heatmaps has not run for {variant}.",
    )
    filled = (
        found["relevance_filled"].empty,
        f"06_region_relevance has not run for {found['filled']}.",
    )
    needs = {
        3: [regions, tracts, (lesions.empty, "no scan has a lesion mask.")],
        4: [
            (
                not any(where.trial("pretraining", 0).parent.glob("trial-*/history.tsv")),
                "no pre-training (02_pretraining).",
            )
        ],
        5: [evaluated],
        6: [evaluated],
        7: [heatmaps],
        8: [heatmaps],
        9: [heatmaps],
        10: [heatmaps],
        11: [regions, tracts],
        12: [regions],
        13: [regions, tracts, filled],
        14: [(found["league"].empty, "07_explanation_quality has not run.")],
    }
    return next(
        (reason for missing, reason in needs.get(number, []) if missing),
        "its tables are there; 08_figures has not drawn it.",
    )


def _limits(synthetic: bool | None) -> str:
    head = "This cohort is synthetic. It shows that the programs run and find what was planted; it cannot show:"
    said = [f"{SYNTHETIC} {head}"] if synthetic else ["It cannot show:"]
    points = "".join(
        f"<li>{html.escape(point)}</li>" for point in (LIMITS if synthetic else []) + REAL
    )
    return _paragraph(said[0]) + f"<ul>{points}</ul>"


def _notebooks(where, folder: Path, notice: str) -> str:
    """Executed notebooks as pages beside the front page; a list of links to them."""
    links, kept = [], (where.folder / "notebooks").glob("*.ipynb")
    sources = sorted(
        path for path in kept if "." not in path.stem and not path.stem.startswith(OWN)
    )  # not the one that runs this
    empty = dict.fromkeys(
        (name for name in HTMLExporter.class_trait_names() if name.endswith("_url")), ""
    )
    for source in sources:
        page = HTMLExporter(embed_images=True, **empty).from_filename(str(source))[0]
        page = re.sub(
            r"<script[^>]*\bsrc=\"[^\"]*\"[^>]*>\s*</script>|<link[^>]*\bhref=\"http[^>]*>",
            "",
            page,
        )
        page = re.sub(
            r'<a href="([^"]*)\.ipynb">(.*?)</a>', lambda found: _link(found, sources), page
        )
        page = page.replace("<head>", f"<head>{POLICY}", 1)
        page = re.sub(
            r"<body[^>]*>", lambda found: f"{found.group()}<p><b>{notice}</b></p>", page, count=1
        )
        with provenance.replacing(folder / f"{source.stem}.html") as draft:
            draft.write_text(page, encoding="utf-8")
        name = html.escape(source.stem)
        links.append(f'<li><a href="{name}.html">{name}</a></li>')
    return (
        f"<ul>{''.join(links)}</ul>"
        if links
        else _paragraph("None: no executed notebook in the notebooks folder.", "reason")
    )


def _link(found: re.Match, sources: list) -> str:
    """A link to a notebook as one to its page; its text alone where it was not executed."""
    pages = [path.stem for path in sources if path.stem.startswith(found.group(1))]
    return (
        f'<a href="{html.escape(pages[0])}.html">{found.group(2)}</a>' if pages else found.group(2)
    )


def _json(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _tsv(path) -> pd.DataFrame:
    return tsv.read(path)


def _significant(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "n/a"


def _spread(mean, sd=np.nan, low=np.nan, high=np.nan) -> str:
    text = [
        f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.2f}"
        for value in (mean, sd, low, high)
        if not pd.isna(value)
    ]
    return (
        text[0]
        + ("" if pd.isna(sd) else f" ± {text[1]}")
        + ("" if pd.isna(low) else f" ({text[-2]}–{text[-1]})")
    )


def _head(names) -> str:
    return f"<thead><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in names)}</tr></thead>"


def _table(names, rows) -> str:
    """Rows of str, escaped, or of one-tuples of a number already written as HTML."""
    cells = [
        "".join(
            f'<td class="number">{cell[0]}</td>'
            if isinstance(cell, tuple)
            else f"<td>{html.escape(str(cell))}</td>"
            for cell in row
        )
        for row in rows
    ]
    return (
        f"<table>{_head(names)}<tbody>{''.join(f'<tr>{row}</tr>' for row in cells)}</tbody></table>"
    )


def _paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{html.escape(text)}</p>"
