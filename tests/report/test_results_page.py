"""The results page: on a hand-made results folder each number stands there, verdicts follow the
numbers, what is missing says why.
"""

import functools
import io
import json
import re
import shutil

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.pages import with_intruders

from msxai.base import page_policy, paper_results
from msxai.base.results import Results
from msxai.report import claims, results_page

NASTY = '<script>document.title = "broken in"</script>"\'&'
SUBJECTS = 8  # of each group
REGIONS = {
    "tracts": [
        "Posterior corona radiata",
        "Corpus callosum",
        "Posterior thalamic radiation",
        "Fornix",
        "External capsule",
        "Tapetum",
    ],
    "areas": ["Thalamus Proper", "Cuneus", "Precuneus"],
}
PEOPLE = [(f"sub-{number:02}", int(number < SUBJECTS)) for number in range(2 * SUBJECTS)]


def save(table, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(folder / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")


def scores(variants, trials=2):
    rows = []
    for number, variant in enumerate(variants):
        row = {"variant": variant, "trials": trials, "patients": 13, "controls": 10}
        for place, measure in enumerate(results_page.MEASURES):
            value = 0.5 + 0.041 * number + 0.0123 * place
            row |= {measure: value, f"{measure}_min": value - 0.03, f"{measure}_max": value + 0.02}
            row |= {f"{measure}_low": value - 0.2, f"{measure}_high": value + 0.1}
        rows.append(row)
    return pd.DataFrame(rows)


def compared(sign=1.0, part="holdout"):
    """AUC clear of .5 and differences clear of 0, on the side of `sign`."""
    same = {"patients": 13, "controls": 10, "part": part}
    rows = []
    for variant in ("pretrained", "lesion-filled"):
        value = 0.5 + 0.312 * sign
        rows.append(
            {
                "variant": variant,
                "measure": "auc",
                "reference": "",
                "value": value,
                "low": value - 0.1,
                "high": value + 0.1,
                **same,
            }
        )
    for reference in ("scratch", "lesion load"):
        value, row = (
            0.217 * sign,
            {
                "variant": "pretrained",
                "measure": "auc_difference",
                "reference": reference,
                "p": 0.0123,
                **same,
            },
        )
        rows.append({**row, "value": value, "low": value - 0.1, "high": value + 0.1})
    return pd.DataFrame(rows)


def predictions(sign=1.0):
    """The pre-trained network tells the groups apart, the lesion-filled one does not (or the other
    way round).
    """
    rng, rows = np.random.default_rng(0), []
    for variant, effect in (("pretrained", 2.0 * (sign > 0)), ("lesion-filled", 2.0 * (sign < 0))):
        for number in range(80):
            logit = rng.normal() + effect * (number % 2)
            row = {
                "variant": variant,
                "trial": 0,
                "participant_id": f"sub-{number:03}",
                "session_id": "",
                "label": number % 2,
            }
            rows.append({**row, "logit": logit, "score": 1 / (1 + np.exp(-logit))})
    return pd.DataFrame(rows)


def regions(sign=1.0, moved=0.0, lesions=True):
    """Relevance and lesion volumes; patients exceed controls, and relevance goes with lesion
    volume, on the side of `sign`.
    """
    rng, relevance, volumes = np.random.default_rng(1 + (moved != 0)), [], []
    for name, label in PEOPLE:
        subject = {
            "participant_id": name,
            "session_id": "",
            "group": "MS" if label else "HC",
            "label": label,
        }
        for atlas, names in REGIONS.items():
            for number, region in enumerate(names):
                free = number == 5 or rng.random() < 0.2
                volume = 0.0 if free or not label else rng.uniform(50, 500)
                density = (
                    0.5
                    + 0.01 * rng.normal()
                    + sign * label * (0.1 + volume / 1000)
                    + 0.3 * sign * (region == "Thalamus Proper")
                )
                share = 0.1 + 0.005 * rng.normal() + moved * (region in claims.MOVED)
                row = {**subject, "atlas": atlas, "region": region}
                relevance.append(
                    {
                        **row,
                        "sign": "positive",
                        "sum": 10 * density,
                        "density": density,
                        "share": share,
                    }
                )
                relevance.append(
                    {**row, "sign": "net", "sum": -99.0, "density": -99.0, "share": -99.0}
                )  # never to be read
                if atlas == "tracts":
                    volumes.append({**row, "volume": volume, "lesions": 1})
    return pd.DataFrame(relevance), pd.DataFrame(volumes if lesions else [])


def league(sign=1.0):
    value = 0.234 * sign
    difference = {
        "auprc_difference": value,
        "auprc_difference_low": value - 0.1,
        "auprc_difference_high": value + 0.1,
    }
    return [
        {"map": "epsilon", "subjects": 9, "auprc_strongest": "brightness", **difference},
        {"map": "brightness", "subjects": 9},
    ]


def scores_against_lesions(sign=1.0):
    """Maps of patients with lesions (0.01 of the brain), of one without, and of controls with some.

    In patients, epsilon has more of its relevance in lesions than chance and a higher AUPRC than
    brightness and SmoothGrad on the side of `sign`; controls have the opposite.
    """
    rng, rows = np.random.default_rng(2), []
    for number in range(16):
        patient, sick = number < 9, number > 0
        side = sign if patient else -3 * sign
        subject = {
            "participant_id": f"sub-{number:02}",
            "session_id": "",
            "label": int(patient),
            "lesion_voxels": 100.0 if sick else 0.0,
            "positive": 1.0,
            "prevalence": 0.01,
        }
        level = 0.3 + 0.01 * rng.normal()
        marks = {
            "epsilon": ("rule", 0.01 + 0.005 * side, level + 0.05 * side),
            "gradient": ("method", 0.9, 0.9),
            "brightness": ("baseline", 0.5, level),
            "prior": ("baseline", 0.5, level - 0.1 if patient else 0.9),
            "smoothgrad": ("method", 0.5, level),
        }
        for name, (kind, rma, auprc) in marks.items():
            rma += 0.0005 * rng.normal()
            auprc += 0.001 * rng.normal()
            rows.append({**subject, "map": name, "kind": kind, "rma": rma, "auprc": auprc})
    return pd.DataFrame(rows)


def notebook(folder, name="04_evaluation"):
    """An executed notebook whose output asks for things from elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    asks = '<script src="https://example.org/a.js"></script><b>shown</b>'
    output = nbformat.v4.new_output("display_data", {"text/html": asks})
    cells = [
        nbformat.v4.new_markdown_cell("# Evaluated"),
        nbformat.v4.new_code_cell("scores", outputs=[output], execution_count=1),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


@functools.cache
def _picture():
    figure, file = plt.figure(figsize=(2, 1)), io.BytesIO()
    figure.text(0.1, 0.5, "a figure")
    figure.savefig(file)
    plt.close(figure)
    return file.getvalue()


def fill(folder, sign=1.0, cohort="toy", synthetic=True, executed=False):
    """A results folder with everything."""
    where = Results(str(folder))
    save(
        scores(
            ["pretrained", "scratch", "lesion-filled", "lesion load", "linear SVM", "brain shape"]
        ),
        where.evaluation(),
        "scores",
    )
    save(compared(sign), where.evaluation(), "comparison")
    save(predictions(sign), where.evaluation(), "predictions")
    save([{"what": "age, sex, site", "reason": "ages are missing"}], where.evaluation(), "left_out")
    for variant, moved in (("pretrained", 0.0), ("lesion-filled", 0.05 * sign)):
        relevance, volumes = regions(sign, moved)
        save(relevance, where.regions(variant), "relevance")
        save(volumes, where.regions(variant), "lesions")
    save(league(sign), where.quality("pretrained"), "league")
    save(scores_against_lesions(sign), where.quality("pretrained"), "scores")
    for number in range(2):
        save(
            {"epoch": [0, 1], "val_accuracy": [0.5, 0.71 + 0.02 * number]},
            where.trial("pretraining", number),
            "history",
        )
    rows = [
        ("all", "MS", 41),
        ("training", "MS", 21),
        ("validation", "MS", 8),
        ("holdout", "MS", 12),
    ]
    rows = [
        {"quantity": "subjects", "part": part, "group": group, "mean": count}
        for part, group, count in rows
    ]
    rows.append(
        {
            "quantity": "lesion_volume",
            "part": "all",
            "group": "MS",
            "mean": 5432.1,
            "sd": 321.4,
            "min": 12.3,
            "max": 9876.5,
        }
    )
    save(rows, where.figures(), "fig01_cohort")
    for number in results_page.ITEMS:
        (where.figures() / f"fig{number:02}_toy.png").write_bytes(_picture())
    if executed:
        notebook(where.folder / "notebooks")
    record = {
        "parameters": {"cohort": cohort},
        "written": "2026-11-25T12:00:00+00:00",
        "commit": "abc",
    }
    (where.evaluation() / "provenance.json").write_text(json.dumps(record))
    where.record(cohort).parent.mkdir(parents=True)
    where.record(cohort).write_text(json.dumps({"synthetic": synthetic}))
    return where


@pytest.fixture
def where(tmp_path):
    return fill(tmp_path / "results")


def verdicts(where):
    table = claims.table(claims.read(where))
    return {claim: list(rows["verdict"]) for claim, rows in table.groupby("claim", sort=False)}


def text_of(page):
    return page.read_text(encoding="utf-8")


# Verdicts


def test_a_verdict_by_hand():
    assert claims.verdict(0.01, 0.4) == "holds"
    assert claims.verdict(-0.4, -0.01) == "does not hold"
    assert (
        claims.verdict(-0.01, 0.4)
        == claims.verdict(0.0, 0.4)
        == claims.verdict(-0.4, 0.0)
        == "cannot be told"
    )
    assert claims.verdict(0.45, 0.9, null=0.5) == "cannot be told"
    assert claims.verdict(0.51, 0.9, null=0.5) == "holds"
    assert (
        claims.verdict(np.nan, np.nan)
        == claims.verdict(0.3, 0.3)
        == claims.verdict(0.3, np.inf)
        == "cannot be told"
    )


def test_verdicts_follow_the_numbers(tmp_path):
    """Each claim holds when its numbers say so, and does not when they are turned round."""
    for sign, expected in ((1, "holds"), (-1, "does not hold")):
        by_claim = verdicts(fill(tmp_path / f"results{sign}", sign))
        assert list(by_claim) == list(claims.CLAIMS)
        wrong = {
            claim: verdict for claim, verdict in by_claim.items() if set(verdict) != {expected}
        }
        assert not wrong, wrong
        assert len(by_claim["With the lesions filled, relevance moves to other tracts."]) == 3


def test_wide_intervals_cannot_be_told(where):
    table = compared()
    table[["low", "high"]] = [-0.5, 1.0]
    save(table, where.evaluation(), "comparison")
    by_claim = verdicts(where)
    assert by_claim["The network distinguishes patients from controls."] == ["cannot be told"]
    assert by_claim["Pre-training on Alzheimer's disease helps."] == ["cannot be told"]


def test_further_subjects_decide_where_there_are_any(where):
    save(pd.concat([compared(1), compared(-1, "further")]), where.evaluation(), "comparison")
    assert verdicts(where)["The network distinguishes patients from controls."] == ["does not hold"]


ON_LESIONS = "Relevance lies on individual lesions."
BETTER = "Relevance marks lesions better than brightness and other reference maps do."


def test_lesions_by_hand(where):
    """Eight patients have lesions; neither the one without nor the controls count."""
    table = claims.table(claims.read(where)).set_index("claim")
    rows = scores_against_lesions().query("label == 1 and lesion_voxels > 0")
    wide = rows.pivot_table(["rma", "auprc", "prevalence"], "participant_id", "map")
    expected = {
        ON_LESIONS: wide["rma", "epsilon"] - wide["prevalence", "epsilon"],
        BETTER: wide["auprc", "epsilon"] - wide["auprc", "brightness"],
    }
    for claim, values in expected.items():
        half = stats.t.ppf(0.975, 7) * values.std(ddof=1) / np.sqrt(8)
        row = table.loc[claim]
        assert (row["value"], row["low"], row["high"]) == pytest.approx(
            (values.mean(), values.mean() - half, values.mean() + half)
        )
        assert row["subjects"] == 8
        assert "patients with lesions" in row["quantity"]
    assert "(brightness)" in table.loc[BETTER, "quantity"]


def test_relevance_can_lie_on_lesions_and_be_worse_than_brightness(where):
    """Worse than brightness is no evidence that relevance does not lie on lesions."""
    table = scores_against_lesions()
    table.loc[table["map"] == "epsilon", "auprc"] -= 0.2
    save(table, where.quality("pretrained"), "scores")
    by_claim = verdicts(where)
    assert by_claim[ON_LESIONS] == ["holds"]
    assert by_claim[BETTER] == ["does not hold"]


def test_smoothgrad_is_compared_on_the_same_patients(where):
    claim = "Relevance marks lesions better than SmoothGrad does."
    row = claims.table(claims.read(where)).set_index("claim").loc[claim]
    rows = scores_against_lesions().query("label == 1 and lesion_voxels > 0")
    wide = rows.pivot_table("auprc", "participant_id", "map")
    assert row["value"] == pytest.approx((wide["epsilon"] - wide["smoothgrad"]).mean())
    assert row["subjects"] == 8
    without = scores_against_lesions().query("map != 'smoothgrad'")
    save(without, where.quality("pretrained"), "scores")
    row = claims.table(claims.read(where)).set_index("claim").loc[claim]
    assert row["verdict"] == "not tested"
    assert "add it to `methods`" in row["reason"]


def test_claims_of_another_variant_and_rule_stand_beside(where):
    table = scores_against_lesions()
    table.loc[table["map"] == "gradient", "rma"] = 0.9 + 0.001 * np.arange(16)
    table.loc[table["map"] == "gradient", "auprc"] = 0.1 + 0.001 * np.arange(16)
    save(table, where.quality("scratch"), "scores")
    tables = claims.read(where, "scratch", rule="gradient")
    tested = claims.table(tables, tests=claims.CLAIMS_OF_BEST).set_index("claim")
    assert list(tested.index) == list(claims.CLAIMS_OF_BEST)
    assert tested.loc[ON_LESIONS, "verdict"] == "holds"
    assert tested.loc[ON_LESIONS, "value"] == pytest.approx(0.894, abs=2e-3)
    assert tested.loc[BETTER, "verdict"] == "does not hold"
    plain = text_of(results_page.write(where, best="scratch", best_rule="gradient"))
    assert "The same claims for scratch" in plain
    assert "the variant scratch with the rule gradient" in plain
    assert "The same claims for" not in text_of(results_page.write(where))


def test_a_map_without_positive_relevance_counts_as_no_mass(where):
    """A table of an earlier version has no value there; the patient counts all the same."""
    table = scores_against_lesions()
    empty = (table["participant_id"] == "sub-03") & (table["map"] == "epsilon")
    results = []
    for value in (0.0, np.nan):
        table.loc[empty, ["rma", "positive"]] = [value, 0.0]
        save(table, where.quality("pretrained"), "scores")
        row = claims.table(claims.read(where)).set_index("claim").loc[ON_LESIONS]
        results.append((row["subjects"], row["value"], row["low"], row["high"]))
    assert results[0] == results[1]
    assert results[0][0] == 8


def test_a_null_cohort_holds_little(where):
    """Without any effect, claims on regions hold about as often as their intervals miss."""
    read, held, tested = claims.read(where), 0, 0
    rng = np.random.default_rng(5)
    for _ in range(12):
        for name in ("relevance", "relevance_filled"):
            read[name] = read[name].assign(
                density=rng.normal(size=len(read[name])), share=rng.normal(size=len(read[name]))
            )
        table = claims.table(read).iloc[-9:]
        held, tested = held + (table["verdict"] == "holds").sum(), tested + len(table)
    assert tested == 12 * 9
    assert held / tested < 0.06


def test_regions_by_hand(where):
    """The intervals of two claims, computed otherwise."""
    read = claims.read(where)
    table = claims.table(read).set_index("claim")
    rows = read["relevance"].query("sign == 'positive' and label == 1 and atlas == 'areas'")
    own = (
        rows[rows["region"] == "Thalamus Proper"]
        .sort_values("participant_id")["density"]
        .to_numpy()
    )
    other = (
        rows[rows["region"] != "Thalamus Proper"]
        .groupby("participant_id")["density"]
        .mean()
        .sort_index()
        .to_numpy()
    )
    difference = own - other
    half = stats.t.ppf(0.975, SUBJECTS - 1) * difference.std(ddof=1) / np.sqrt(SUBJECTS)
    row = table.loc["The thalamus carries relevance."]
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (difference.mean(), difference.mean() - half, difference.mean() + half)
    )
    dense, volumes = (
        read[name].query(
            "atlas == 'tracts' and label == 1 and sign == 'positive'"
            if name == "relevance"
            else "label == 1"
        )
        for name in ("relevance", "lesions")
    )
    both = dense.merge(volumes[["participant_id", "region", "volume"]])
    controls = (
        read["relevance"]
        .query("atlas == 'tracts' and label == 0 and sign == 'positive'")
        .groupby("region")["density"]
        .mean()
    )
    free = both[both["volume"] == 0]
    excess = (free["density"] - free["region"].map(controls)).groupby(free["participant_id"]).mean()
    row = table.loc["White matter without lesions carries relevance."]
    assert row["value"] == pytest.approx(excess.mean())
    assert row["low"] < row["value"] < row["high"]


# Missing pieces


def test_an_empty_folder_says_what_is_missing(tmp_path):
    where = Results(str(tmp_path))
    page = text_of(results_page.write(where))
    assert set(claims.table(claims.read(where))["verdict"]) == {"not tested"}
    for number in results_page.ITEMS:
        assert re.search(
            rf'id="item-{number}">.*?</h3><p class="reason">Left out: [^<]+\.</p>', page
        ), number
    assert "04_evaluation has not run" in page
    assert "06_region_relevance has not run for pretrained." in page
    assert "Not recorded whether these subjects are synthetic" in page
    assert "Not for clinical use." in page


def test_a_profile_without_a_variant_on_filled_scans_has_a_page(tmp_path):
    where = Results(str(tmp_path))
    page = text_of(results_page.write(where, filled=""))
    assert "06_region_relevance has not run for pretrained." in page
    assert claims.read(where, filled="")["relevance_filled"].empty
    assert claims.table(claims.read(where, "", ""), tests={}).empty
    assert "<img" not in page


MISSING = {
    "no JHU atlas": (
        lambda where: _without(where, "relevance", "atlas == 'tracts'"),
        "no tracts in the regions tables",
        7,
    ),
    "no lesion masks": (
        lambda where: (where.regions("pretrained") / "lesions.tsv").unlink(),
        "no scan has a lesion mask.",
        2,
    ),
    "few subjects": (
        lambda where: _without(where, "relevance", "participant_id > 'sub-11'"),
        "fewer than 5 subjects of a group.",
        2,
    ),
    "no filled network": (
        lambda where: shutil.rmtree(where.regions("lesion-filled")),
        "no regions tables of lesion-filled",
        1,
    ),
    "no quality": (
        lambda where: shutil.rmtree(where.folder / "quality"),
        "07_explanation_quality has not run",
        3,
    ),
    "quality table of an earlier version": (
        lambda where: _without_column(where, "prevalence"),
        "no column prevalence in quality/scores.tsv",
        1,
    ),
    "no patient with lesions": (
        lambda where: save(
            scores_against_lesions().query("label == 0"), where.quality("pretrained"), "scores"
        ),
        "no map of epsilon of a patient with lesions",
        3,
    ),
    "no thalamus": (
        lambda where: _without(where, "relevance", "region == 'Thalamus Proper'"),
        "no region Thalamus Proper",
        1,
    ),
}


def _without(where, name, query):
    path = where.regions("pretrained") / f"{name}.tsv"
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    save(table.drop(table.query(query).index), path.parent, name)


def _without_column(where, name):
    table = scores_against_lesions().drop(columns=name)
    save(table, where.quality("pretrained"), "scores")


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_piece_leaves_out_its_claims_and_says_why(where, name):
    spoil, words, count = MISSING[name]
    spoil(where)
    table = claims.table(claims.read(where))
    left_out = table[table["verdict"] == "not tested"]
    assert left_out["reason"].str.contains(words, regex=False).sum() == len(left_out), left_out[
        "reason"
    ].tolist()
    assert 1 <= len(left_out) <= count
    results_page.write(where)


def test_items_without_figure_give_the_reason(where):
    for number in (3, 11, 13, 14):
        (where.figures() / f"fig{number:02}_toy.png").unlink()
    _without(where, "relevance", "atlas == 'tracts'")
    page = text_of(results_page.write(where))
    reasons = dict(
        re.findall(r'id="item-(\d+)">[^<]+</h3><p class="reason">Left out: ([^<]+)</p>', page)
    )
    assert set(reasons) == {"3", "11", "13", "14"}
    no_tracts = "the atlas of tracts (JHU) is not here."
    assert reasons["3"] == reasons["11"] == reasons["13"] == no_tracts
    assert reasons["14"] == "its tables are there; 08_figures has not drawn it."


# The page


def test_each_number_stands_beside_the_papers(where):
    page = text_of(results_page.write(where))
    table = scores(
        ["pretrained", "scratch", "lesion-filled", "lesion load", "linear SVM", "brain shape"]
    ).set_index("variant")
    paper = (
        paper_results.read()
        .query("section == 'holdout'")
        .set_index(["variant", "quantity"])["mean"]
    )
    rows = {
        variant: re.search(rf"<tr><td>{variant}<small>.*?</tr>", page).group()
        for variant in table.index
    }
    for variant, row in rows.items():
        cells = re.findall(r'<td class="number( paper)?">(.*?)</td>', row)
        assert len(cells) == 8
        for number, measure in enumerate(results_page.MEASURES):
            value, least, most, low, high = (
                100 * table.at[variant, measure + end]
                for end in ("", "_min", "_max", "_low", "_high")
            )
            assert cells[2 * number] == (
                "",
                f"{value:.1f} ({least:.1f}–{most:.1f})<small>[{low:.1f}–{high:.1f}]</small>",
            )
            printed = f"{paper[variant, measure]:.1f}" if (variant, measure) in paper.index else "–"
            assert cells[2 * number + 1][1].split(" ")[0] == printed
    assert "+21.7 [+11.7 to +31.7]" in page
    assert "0.217 [0.117 to 0.317]" in page
    assert "72 ± 1.41<small>best epoch of 2 trials</small>" in page
    assert "5,432 ± 321 (12.30–9,876)" in page
    assert (
        "<td>MS: training and validation</td><td>subjects</td>"
        '<td class="number">29</td><td class="number">63</td>' in page
    )
    assert "Left out: age, sex, site, because ages are missing" in page


def test_all_items_are_there_with_their_pictures(where):
    page = text_of(results_page.write(where))
    assert page.count('src="data:image/png;base64,') == len(results_page.ITEMS) == 14
    for number, title in results_page.ITEMS.items():
        assert (
            f'id="item-{number}">{number} · {title}</h3><figure><img alt="fig{number:02}_toy"'
            in page
        )


def test_synthetic_is_said_only_where_it_is(tmp_path):
    page = text_of(results_page.write(fill(tmp_path / "a")))
    assert (
        "Synthetic: simulated subjects, no data of patients. "
        "Research software. Not for clinical use." in page
    )
    assert "Whether any claim holds for people" in page
    page = text_of(results_page.write(fill(tmp_path / "b", synthetic=False)))
    assert "ynthetic" not in page
    assert "Not for clinical use." in page


def test_the_pages_load_nothing_from_elsewhere(where):
    notebook(where.folder / "notebooks")
    index = results_page.write(where)
    executed = index.parent / "04_evaluation.html"
    assert "<b>shown</b>" in text_of(executed)
    for page in (index, executed):
        assert not re.search(
            r"<(script|link|img|iframe)[^>]*(src|href)=\"(?!data:)[^\"]", text_of(page)
        )
        scripts = re.findall(r"https?://[^\"'\s]+\.m?js\b", text_of(page))
        assert not scripts, "no script imports another one"
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text_of(page))[1]
        assert policy.startswith(page_policy.policy())
        assert "script-src" not in policy
        assert (
            "Synthetic: simulated subjects, no data of patients. "
            "Research software. Not for clinical use." in text_of(page)
        )
    assert 'href="04_evaluation.html"' in text_of(index)


def test_links_between_notebooks_lead_to_their_pages_or_nowhere(where):
    """Also where a notebook was executed once for each variant; the one that runs this, and
    papermill's drafts, have no page.
    """
    folder = where.folder / "notebooks"
    folder.mkdir()
    text = (
        "[first](01_data_preparation.ipynb) [next](05_lrp_heatmaps.ipynb) "
        "[missing](06_region_relevance.ipynb)"
    )
    for name in (
        "01_data_preparation_toy",
        "05_lrp_heatmaps_a",
        "05_lrp_heatmaps_b",
        "09_results_page",
        "05_lrp_heatmaps_a.ipynb.source",
    ):
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]),
            folder / f"{name}.ipynb",
        )
    index = results_page.write(where)
    page = text_of(index.parent / "01_data_preparation_toy.html")
    assert (
        '<a href="01_data_preparation_toy.html">first</a> '
        '<a href="05_lrp_heatmaps_a.html">next</a> missing' in page
    )
    pages = {path.name for path in index.parent.glob("*.html")}
    assert pages == {
        "index.html",
        "01_data_preparation_toy.html",
        "05_lrp_heatmaps_a.html",
        "05_lrp_heatmaps_b.html",
    }


def test_all_or_nothing(where, monkeypatch):
    index = results_page.write(where)
    (index.parent / "notes.txt").write_text("mine")
    index.write_text("old")
    monkeypatch.setattr(results_page, "_limits", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results_page.write(where)
    assert index.read_text() == "old"
    assert sorted(path.name for path in index.parent.iterdir()) == ["index.html", "notes.txt"]


def test_a_browser_opens_the_page(tmp_path, browse):
    """A name of the user's stays text, in the browser too."""
    where = fill(tmp_path / "results", executed=True)
    save(compared().assign(part=NASTY), where.evaluation(), "comparison")
    table = scores([NASTY, "pretrained"])
    save(table, where.evaluation(), "scores")
    save([{"what": NASTY, "reason": NASTY}], where.evaluation(), "left_out")
    record = json.loads((where.evaluation() / "provenance.json").read_text())
    (where.evaluation() / "provenance.json").write_text(json.dumps({**record, "commit": NASTY}))
    index = results_page.write(where, tmp_path / "pages")
    dom = browse(index, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1300,4000")
    assert "<title>Results: toy</title>" in dom
    assert "<script" not in dom
    assert dom.count("<img ") == 14
    assert dom.count('class="verdict holds"') == 17
    assert (tmp_path / "page.png").stat().st_size > 50e3
    dom = browse(index.parent / "04_evaluation.html")
    assert "<b>shown</b>" in dom
    assert "<title>Results: toy</title>" in browse(with_intruders(index, tmp_path))
