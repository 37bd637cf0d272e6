"""The results page: our numbers beside the paper's, claims, all figures, the executed notebooks."""

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from msxai.base import page_policy, paper_results, provenance, tsv
from msxai.base.notices import NOTICE, SYNTHETIC
from msxai.report import claims, notebook_pages

__all__ = ["ITEMS", "MEASURES", "write"]

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
    14: "Explanation methods and states of the network",
}
OWN = "09_results_page"
EMPTY = "–"
CLASSES = {
    claims.HOLDS: "holds",
    claims.FAILS: "fails",
    claims.UNSURE: "unsure",
    claims.UNTESTED: "untested",
}
SYNTHETIC_LIMITS = [
    "Whether any claim holds for people: the simulated subjects have only the differences that "
    "were put into them.",
    "Where multiple sclerosis appears in real brains: lesions lie where the maps of the simulation "
    "put them. Relevance found there shows that the method finds what was planted.",
    "Whether tissue without visible lesions carries a signal: only what the simulation changes "
    "there can be found.",
    "How accurate a network is on real scans, or whether pre-training on real scans of Alzheimer's "
    "disease helps: both cohorts are simulated.",
    "Effects of scanners, protocols and processing: the simulation has a site effect at most.",
    "Relations to EDSS, age and sex as they are in patients: the simulation draws these values.",
]
LIMITS = [
    "Anything beyond this cohort: intervals are over its subjects.",
    "Causes: relevance shows what a network uses, not what the disease does.",
]
UNKNOWN_ORIGIN = "Not recorded whether these subjects are synthetic: do not take them for patients."
COHORT_PARTS = {  # section of the paper's table to parts of our split
    "cohort": ["all"],
    "cohort training": ["training", "validation"],
    "cohort holdout": ["holdout"],
}


@dataclass(frozen=True)
class _Value:
    """A table cell: a number in words and a smaller note below."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class _Origin:
    """What provenance records say of a cohort; `synthetic` is None where no record says it."""

    cohort: str
    synthetic: bool | None
    made: str

    @property
    def notice(self) -> str:
        """Sentences for the top of every page."""
        if self.synthetic is None:
            return f"{UNKNOWN_ORIGIN} {NOTICE}"
        return f"{SYNTHETIC} {NOTICE}" if self.synthetic else NOTICE


def write(
    where,
    path=None,
    variant: str = "pretrained",
    filled: str = "lesion-filled",
    *,
    best: str = "",
    best_rule: str = claims.PAPERS_RULE,
) -> Path:
    """Write the results page from saved tables, figures and executed notebooks.

    Parameters
    ----------
    where : msxai.base.results.Results
        The results folder. Where something is missing, the page gives the reason.
    path : path, optional
        Folder of the pages, by default ``<results>/report``. Other files in it stay.
    variant, filled : str
        The network whose relevance is shown, and the one trained on lesion-filled scans.
    best, best_rule : str
        A variant whose claims are shown beside, and the rule of its maps; "" for none.

    Returns
    -------
    pathlib.Path
        index.html, written last: one file that holds all pictures and loads nothing from
        elsewhere. A page for each executed notebook lies beside it.
    """
    folder = where.folder / "report" if path is None else Path(path)
    tables = claims.read(where, variant, filled)
    origin = _origin(where)
    content = {
        "cohort": origin.cohort,
        "notice": origin.notice,
        "made": origin.made,
        "measures": list(MEASURES.values()),
        "items": [_item(number, where, tables) for number in ITEMS],
        "limits": _limits(origin.synthetic),
        **_claims(claims.table(tables)),
        "best": best,
        "best_rule": best_rule,
        "claims_of_best": _claims_of_best(where, best, best_rule),
        **_numbers(where, tables),
    }
    content["policy"] = page_policy.policy()
    content["notebooks"] = _notebooks(where, folder, origin.notice)
    page = _template().render(content)
    with provenance.replacing(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("msxai.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("results.html")


def _origin(where) -> _Origin:
    evaluation = _json(where.evaluation() / "provenance.json")
    parameters = evaluation.get("parameters", {})
    cohort = parameters.get("cohort", "")
    preparation = _json(where.record(cohort)) if cohort else {}
    made = ""
    if "written" in evaluation and "commit" in evaluation:
        day = evaluation["written"][:10]
        commit = str(evaluation["commit"])[:10]
        made = f"Evaluated {day}, commit {commit}."
    return _Origin(cohort or "no evaluation yet", preparation.get("synthetic"), made)


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    return provenance.read(path)


def _claims(table: pd.DataFrame) -> dict:
    """The claims with their verdicts, and how many have which verdict."""
    numbers = table["verdict"].value_counts()
    counts = [f"{name}: {numbers.get(name, 0)}" for name in CLASSES]
    return {"claims": _claim_rows(table), "counts": ", ".join(counts) + "."}


def _claims_of_best(where, best: str, rule: str) -> list[dict]:
    """The claims of the variant whose networks see lesions; none without such a variant."""
    if not best:
        return []
    tables = claims.read(where, best, rule=rule)
    return _claim_rows(claims.table(tables, tests=claims.CLAIMS_OF_BEST))


def _claim_rows(table: pd.DataFrame) -> list[dict]:
    rows = []
    for claim in table.to_dict("records"):
        row = {
            "claim": claim["claim"],
            "verdict": claim["verdict"],
            "css": CLASSES[claim["verdict"]],
            "value": _claim_value(claim),
            "what": claim["quantity"] or claim["reason"],
        }
        rows.append(row)
    return rows


def _claim_value(claim: dict) -> _Value:
    if claim["verdict"] == claims.UNTESTED:
        return _Value("")
    value = _significant(claim["value"])
    low = _significant(claim["low"])
    high = _significant(claim["high"])
    note = f"null {claim['null']:g}, {claim['subjects']:.0f} subjects"
    return _Value(f"{value} [{low} to {high}]", note)


def _significant(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "n/a"


def _numbers(where, tables: dict) -> dict:
    """All numbers beside the paper's."""
    paper = paper_results.read()
    return {
        "has_scores": len(tables["scores"]) > 0,
        "scores": _scores(tables["scores"], paper),
        "further": _further(tables["scores_further"]),
        "compared": _compared(tables["comparison"]),
        "cohort_rows": _cohort_rows(where, paper),
        "left_out": tables["left_out"].to_dict("records"),
    }


def _scores(scores: pd.DataFrame, paper: pd.DataFrame) -> list[dict]:
    """Each model of ours or of the paper, measure by measure."""
    printed = paper[paper["section"] == "holdout"]
    theirs = printed.set_index(["variant", "quantity"])
    by_variant = printed.drop_duplicates("variant").set_index("variant")
    descriptions = by_variant["description"]
    ours = scores.set_index("variant") if len(scores) else pd.DataFrame()
    rows = []
    for variant in dict.fromkeys([*descriptions.index, *ours.index]):
        pairs = []
        for measure in MEASURES:
            here = _Value(EMPTY)
            printed_there = _Value(EMPTY)
            if variant in ours.index:
                here = _our_score(ours.loc[variant], measure)
            if (variant, measure) in theirs.index:
                printed_there = _paper_score(theirs.loc[(variant, measure)])
            pairs.append({"here": here, "paper": printed_there})
        description = descriptions.get(variant, "")
        rows.append({"variant": variant, "description": description, "pairs": pairs})
    return rows


def _our_score(row: pd.Series, measure: str) -> _Value:
    """Mean (range of trials) and, below, [interval], in %."""
    text = f"{100 * row[measure]:.1f}"
    if row["trials"] > 1:
        lowest = 100 * row[f"{measure}_min"]
        highest = 100 * row[f"{measure}_max"]
        text += f" ({lowest:.1f}–{highest:.1f})"
    low = 100 * row[f"{measure}_low"]
    high = 100 * row[f"{measure}_high"]
    return _Value(text, f"[{low:.1f}–{high:.1f}]")


def _paper_score(row: pd.Series) -> _Value:
    text = f"{row['mean']:.1f}"
    if pd.notna(row["low"]):
        text += f" ({row['low']:.1f}–{row['high']:.1f})"
    return _Value(text)


def _further(scores: pd.DataFrame) -> dict | None:
    """The same models on further simulated subjects."""
    if scores.empty:
        return None
    rows = []
    for _, row in scores.iterrows():
        values = [_our_score(row, measure) for measure in MEASURES]
        rows.append({"variant": row["variant"], "numbers": values})
    first = scores.iloc[0]
    subjects = f"{first['patients']:.0f} patients and {first['controls']:.0f} controls"
    return {"subjects": subjects, "rows": rows}


def _compared(compared: pd.DataFrame) -> list[dict] | None:
    """Paired differences in AUC, in percentage points."""
    if compared.empty:
        return None
    differences = compared[compared["measure"] == "auc_difference"].dropna(subset=["value"])
    rows = []
    for row in differences.to_dict("records"):
        interval = "[no variance]"
        if np.isfinite(row["low"]):
            interval = f"[{100 * row['low']:+.1f} to {100 * row['high']:+.1f}]"
        row["difference"] = f"{100 * row['value']:+.1f} {interval}"
        row["p"] = f"{row['p']:.2g}" if np.isfinite(row["p"]) else EMPTY
        rows.append(row)
    return rows


def _cohort_rows(where, paper: pd.DataFrame) -> list[dict]:
    """Cohort and pre-training beside the paper's."""
    ours = _cohort_table(where)
    accuracy = _pretraining_accuracy(where)
    rows = []
    for printed in paper[paper["section"] != "holdout"].to_dict("records"):
        is_pretraining = printed["section"] == "pretraining"
        here = accuracy if is_pretraining else _cohort_value(ours, printed)
        group = printed["description"]
        if not is_pretraining:
            group = f"{printed['variant']}: {group}"
        row = {
            "section": printed["section"],
            "group": group,
            "quantity": _quantity_name(printed),
            "here": here,
            "paper": _Value(_spread(printed)),
        }
        rows.append(row)
    return rows


def _cohort_table(where) -> dict:
    """(part, group, quantity) to a row of the numbers of figure 1."""
    drawn = tsv.read(where.figures() / "fig01_cohort.tsv")
    ours = {}
    for row in drawn.to_dict("records"):
        if row["part"] != "paper":
            ours[row["part"], row["group"], row["quantity"]] = row
    return ours


def _cohort_value(ours: dict, printed: dict) -> _Value:
    rows = []
    for part in COHORT_PARTS.get(printed["section"], []):
        key = (part, printed["variant"], printed["quantity"])
        if key in ours:
            rows.append(ours[key])
    if not rows:
        return _Value(EMPTY)
    if printed["quantity"] == "subjects":  # the paper counts training and validation together
        total = sum(row["mean"] for row in rows)
        return _Value(_number(total))
    first = rows[0]
    if pd.isna(first["mean"]):
        return _Value(EMPTY)
    return _Value(_spread({**first, "low": first["min"], "high": first["max"]}))


def _pretraining_accuracy(where) -> _Value:
    """Validation accuracy (%) of the best epoch, mean ± SD over trials."""
    trials = where.trial("pretraining", 0).parent
    best = []
    for path in sorted(trials.glob("trial-*/history.tsv")):
        history = tsv.read(path)
        if "val_accuracy" in history:
            best.append(100 * history["val_accuracy"].max())
    if not best:
        return _Value(EMPTY)
    sd = np.std(best, ddof=1) if len(best) > 1 else np.nan
    text = _spread({"mean": np.mean(best), "sd": sd, "low": np.nan})
    trials_text = "1 trial" if len(best) == 1 else f"{len(best)} trials"
    return _Value(text, f"best epoch of {trials_text}")


def _quantity_name(printed: dict) -> str:
    name = printed["quantity"].replace("_", " ").replace("val ", "validation ")
    if isinstance(printed["unit"], str):
        name += f" ({printed['unit']})"
    return name


def _spread(row: dict) -> str:
    """Mean ± SD (range), as far as they are there."""
    text = _number(row["mean"])
    if not pd.isna(row["sd"]):
        text += f" ± {_number(row['sd'])}"
    if not pd.isna(row["low"]):
        text += f" ({_number(row['low'])}–{_number(row['high'])})"
    return text


def _number(value: float) -> str:
    is_whole = value == round(value)
    return f"{value:,.0f}" if is_whole or abs(value) >= 100 else f"{value:.2f}"


def _item(number: int, where, tables: dict) -> dict:
    """An item with its pictures, or the reason why there are none."""
    pictures = []
    for path in sorted(where.figures().glob(f"fig{number:02d}[a-z_]*.png")):
        data = base64.b64encode(path.read_bytes()).decode()
        pictures.append({"name": path.stem, "data": data})
    reason = "" if pictures else _reason(number, where, tables)
    item = {"number": number, "title": ITEMS[number], "reason": reason}
    return item | {"pictures": pictures}


def _reason(number: int, where, tables: dict) -> str:
    """Why an item has no figure: the first thing it needs that is not there."""
    missing = _missing(where, tables)
    needs = {
        3: ["regions", "tracts", "lesions"],
        4: ["pretraining"],
        5: ["evaluation"],
        6: ["evaluation"],
        7: ["heatmaps"],
        8: ["heatmaps"],
        9: ["heatmaps"],
        10: ["heatmaps"],
        11: ["regions", "tracts"],
        12: ["regions"],
        13: ["regions", "tracts", "filled"],
        14: ["quality"],
    }
    for need in needs.get(number, []):
        if need in missing:
            return missing[need]
    return "its tables are there; 08_figures has not drawn it."


def _missing(where, tables: dict) -> dict:
    """What is not there, with the reason."""
    variant = tables["variant"]
    relevance = tables["relevance"]
    missing = {}
    if relevance.empty:
        missing["regions"] = f"06_region_relevance has not run for {variant}."
    elif "tracts" not in set(relevance["atlas"]):
        missing["tracts"] = "the atlas of tracts (JHU) is not here."
    if tables["lesions"].empty:
        missing["lesions"] = "no scan has a lesion mask."
    pretraining = where.trial("pretraining", 0).parent
    if not any(pretraining.glob("trial-*/history.tsv")):
        missing["pretraining"] = "no pre-training (02_pretraining)."
    if tables["scores"].empty:
        missing["evaluation"] = "04_evaluation has not run."
    heatmaps = where.heatmaps(variant) / "heatmaps.tsv"
    if not heatmaps.is_file():
        missing["heatmaps"] = f"05_lrp_heatmaps has not run for {variant}."
    if tables["relevance_filled"].empty:
        missing["filled"] = f"06_region_relevance has not run for {tables['filled']}."
    if tables["league"].empty:
        missing["quality"] = "07_explanation_quality has not run."
    return missing


def _limits(synthetic: bool | None) -> dict:
    if not synthetic:
        return {"sentence": "They cannot show:", "points": LIMITS}
    sentence = (
        f"{SYNTHETIC} They show that the programs run and find what was planted. They cannot show:"
    )
    return {"sentence": sentence, "points": SYNTHETIC_LIMITS + LIMITS}


def _notebooks(where, folder: Path, notice: str) -> list[str]:
    """Write executed notebooks as pages beside the front page; return their names."""
    sources = []
    for path in sorted((where.folder / "notebooks").glob("*.ipynb")):
        is_draft = "." in path.stem
        if not is_draft and not path.stem.startswith(OWN):  # which is running
            sources.append(path)
    names = [path.stem for path in sources]
    for source in sources:
        page = notebook_pages.page(source, names, notice)
        with provenance.replacing(folder / f"{source.stem}.html") as draft:
            draft.write_text(page, encoding="utf-8")
    return names
