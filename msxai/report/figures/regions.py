"""Figures of regions: lesion volume by tract, relevance by tract and by grey-matter area, and with the lesions filled."""

import numpy as np
import pandas as pd

from msxai.base import statistics
from msxai.report.figures import sheet
from msxai.report.figures.sheet import CONTROL, PATIENT

GROUPS = {1: ("patients", PATIENT, -0.2), 0: ("controls", CONTROL, 0.2)}
SCALES = {"sum": "relevance (logit)", "density": "relevance per voxel (logit)"}
BARS = "Bars: mean of subjects with 95 % interval (bootstrap of subjects within each group)."


def summary(table: pd.DataFrame, value: str, seed: int = 0) -> pd.DataFrame:
    """Mean of subjects by region and group with its 95 % bootstrap interval; visits of a subject are averaged first.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id, label, region and `value`, one row a scan and region.
    value : str
    seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        region, label, subjects, mean, low, high.
    """
    rows = []
    for label, group in table.dropna(subset=["label"]).groupby("label"):
        wide = group.pivot_table(value, "participant_id", "region", sort=False)
        weights = statistics.bootstrap_weights(np.zeros(len(wide)), seed) / len(wide)
        low, high = np.quantile(weights @ wide.to_numpy(), [0.025, 0.975], axis=0)
        rows.append(
            pd.DataFrame(
                {
                    "region": wide.columns,
                    "label": int(label),
                    "subjects": len(wide),
                    "mean": wide.mean().to_numpy(),
                    "low": low,
                    "high": high,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


@sheet.drawn
def lesion_volumes(table: pd.DataFrame, reason: str = "", seed: int = 0, *, synthetic: bool):
    """Lesion volume of each white-matter tract: violins of subjects, patients and controls.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id, label, atlas, region, volume (mm3); the rows of atlas "tracts" are drawn.
    reason : str
        Why there is nothing to draw.
    seed : int
        Of the bootstrap.
    synthetic : bool
        Mark the figure.
    """
    title, table = "Lesion volume by white-matter tract", table[table["atlas"] == "tracts"]
    if table.empty:
        return sheet.words(
            title, f"Nothing to draw: {reason or 'no scan has a lesion mask.'}", synthetic
        )
    source = summary(table, "volume", seed)
    names = _order(source)
    notes = [
        "Violins and dots: subjects, on a scale of log(1 + mm³). Black: mean with 95 % interval (bootstrap of subjects)."
    ]
    figure, bottom = sheet.sheet(8.5, 0.27 * len(names) + 0.7, title, notes, synthetic)
    axes = sheet.place(figure, 2.6, bottom + 0.5, 4.6, 0.27 * len(names))
    _violins(axes, table, "volume", names, np.log1p)
    _means(
        axes,
        source.assign(**{name: np.log1p(source[name]) for name in ("mean", "low", "high")}),
        names,
        "black",
    )
    ticks = np.array([0, 10, 100, 1000, 10000])
    axes.set_xticks(np.log1p(ticks), [f"{tick:,}" for tick in ticks])
    _finish(axes, names, "lesion volume (mm³)", source, legend=True)
    return figure, source


@sheet.drawn
def tracts(
    table: pd.DataFrame, tests: pd.DataFrame, reason: str = "", seed: int = 0, *, synthetic: bool
):
    """Relevance by white-matter tract, patients and controls: net (as the original showed) and positive, absolute and by size.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`; the rows of atlas "tracts" are drawn.
    tests : pandas.DataFrame
        `msxai.regions.region_statistics.compare`.
    reason, seed, synthetic
        As in `lesion_volumes`.
    """
    title, table = "Relevance by white-matter tract", table[table["atlas"] == "tracts"]
    if table.empty:
        return sheet.words(title, f"Nothing to draw: {reason}", synthetic, notice=True)
    panels = [(sign, measure) for sign in ("net", "positive") for measure in SCALES]
    source = pd.concat(
        [
            summary(table[table["sign"] == sign], measure, seed).assign(sign=sign, measure=measure)
            for sign, measure in panels
        ]
    )
    source = _with_p(source, tests, "tracts")
    names = _order(source[(source["sign"] == "positive") & (source["measure"] == "sum")])
    notes = [
        BARS,
        "★: patients and controls differ at family-wise p < .05 (permuted labels, max-T over all tracts).",
    ]
    height = 0.25 * len(names)
    figure, bottom = sheet.sheet(12.2, height + 0.9, title, notes, synthetic, notice=True)
    for at, (sign, measure) in enumerate(panels):
        axes = sheet.place(
            figure,
            2.3 + 2.15 * at,
            bottom + 0.5,
            1.85,
            height,
            title=f"{sign}, {'absolute' if measure == 'sum' else 'by size'}",
        )
        part = source[(source["sign"] == sign) & (source["measure"] == measure)]
        _bars(axes, part, names)
        _finish(axes, names, SCALES[measure], part, named=at == 0, legend=at == 3)
    return figure, source


@sheet.drawn
def areas(table: pd.DataFrame, tests: pd.DataFrame, seed: int = 0, *, synthetic: bool):
    """Relevance by grey-matter area: dots (mean with interval) and, beside them, violins of subjects; positive relevance.

    Parameters
    ----------
    table, tests, seed, synthetic
        As in `tracts`; the rows of atlas "areas" are drawn.
    """
    title, table = "Relevance by grey-matter area", table[table["atlas"] == "areas"]
    if table.empty:
        return sheet.words(title, "Nothing to draw: no heatmap.", synthetic, notice=True)
    panels = [("net", "sum"), ("positive", "sum")]
    source = pd.concat(
        [
            summary(table[table["sign"] == sign], measure, seed).assign(sign=sign, measure=measure)
            for sign, measure in panels
        ]
    )
    source = _with_p(source, tests, "areas")
    names = _order(source[source["sign"] == "positive"])
    notes = [
        f"{len(names)} areas of Neuromorphometrics without side that are grey matter; the paper counts 69.",
        "Dots: mean of subjects with 95 % interval (bootstrap of subjects within each group). Violins: subjects, positive relevance.",
        "★: patients and controls differ at family-wise p < .05 (permuted labels, max-T over all areas).",
    ]
    height = 0.17 * len(names)
    figure, bottom = sheet.sheet(10.5, height + 0.9, title, notes, synthetic, notice=True)
    for at, (sign, measure) in enumerate(panels):
        axes = sheet.place(
            figure, 2.4 + 2.35 * at, bottom + 0.5, 2.1, height, title=f"{sign}: mean"
        )
        part = source[source["sign"] == sign]
        _means(axes, part, names)
        _finish(axes, names, SCALES[measure], part, named=at == 0)
    axes = sheet.place(
        figure, 2.4 + 2.35 * 2, bottom + 0.5, 2.1, height, title="positive: subjects"
    )
    _violins(axes, table[table["sign"] == "positive"], "sum", names)
    _finish(axes, names, SCALES["sum"], source.assign(p_fwe=1.0), named=False, legend=True)
    return figure, source


@sheet.drawn
def with_without(
    table: pd.DataFrame,
    filled: pd.DataFrame,
    tests: pd.DataFrame,
    reason: str = "",
    seed: int = 0,
    top: int = 12,
    *,
    synthetic: bool,
):
    """Patients' relevance with lesions (left) and with the lesions filled (right), mirrored bars over the top tracts.

    Parameters
    ----------
    table, filled : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance` of the variant on untouched and of that on lesion-filled scans, the same subjects.
    tests : pandas.DataFrame
        `msxai.base.permutation.paired` of their differences for net and positive: sign, region, p_fwe, over all tracts.
    reason, seed, synthetic
        As in `lesion_volumes`.
    top : int
        Tracts shown: those of the highest positive relevance over both variants, which decides nothing about their difference; the tests
        are over all tracts.
    """
    title = "Relevance with and without lesions, patients"
    table, filled = (
        one[(one["atlas"] == "tracts") & (one["label"] == 1)] if len(one) else one
        for one in (table, filled)
    )
    if not len(table) or not len(filled):
        return sheet.words(title, f"Nothing to draw: {reason}", synthetic, notice=True)
    parts = [
        summary(one[one["sign"] == sign], "sum", seed).assign(sign=sign, lesions=name)
        for sign in ("net", "positive")
        for name, one in (("with", table), ("filled", filled))
    ]
    source = pd.concat(parts).merge(
        tests[["sign", "region", "p_fwe"]], on=["sign", "region"], how="left"
    )
    best = (
        source[source["sign"] == "positive"]
        .groupby("region")["mean"]
        .sum()
        .sort_values(ascending=False)
    )
    names = list(best.index[:top])
    notes = [
        BARS,
        f"The {len(names)} tracts of the highest positive relevance over both.",
        "★: the paired difference has family-wise p < .05 (signs flipped, max-T over all tracts).",
    ]
    height = 0.27 * len(names)
    figure, bottom = sheet.sheet(9, height + 0.9, title, notes, synthetic, notice=True)
    for at, sign in enumerate(("net", "positive")):
        part = source[source["sign"] == sign]
        for side, (name, colour) in enumerate(
            (("with", PATIENT), ("filled", "#777777"))
        ):  # each grows from the middle
            axes = sheet.place(
                figure,
                2.4 + 3.3 * at + 1.65 * side,
                bottom + 0.5,
                1.35,
                height,
                title=f"{sign}, {name}",
            )
            rows = part[part["lesions"] == name].set_index("region").loc[names]
            error = np.c_[rows["mean"] - rows["low"], rows["high"] - rows["mean"]].T.clip(0)
            axes.barh(
                np.arange(len(names)),
                rows["mean"],
                0.7,
                color=colour,
                xerr=error,
                error_kw={"lw": 0.7},
            )
            axes.axvline(0, color="black", lw=0.5)
            axes.set_xlim(
                min(part["low"].min(), 0) * 1.05, max(part["high"].max(), 0) * 1.05 + 1e-12
            )
            _finish(
                axes,
                names,
                SCALES["sum"],
                part if side else part.assign(p_fwe=1.0),
                named=not at + side,
            )
            if not side:
                axes.invert_xaxis()
    return figure, source


def _order(source: pd.DataFrame) -> list:
    return list(source.groupby("region")["mean"].max().sort_values(ascending=False).index)


def _with_p(source: pd.DataFrame, tests: pd.DataFrame, atlas: str) -> pd.DataFrame:
    """Family-wise p beside each region; that of the density is that of the sum."""
    if tests.empty:
        return source.assign(p_fwe=np.nan)
    p = tests[(tests["atlas"] == atlas) & (tests["measure"] == "sum")][["sign", "region", "p_fwe"]]
    return source.merge(p, on=["sign", "region"], how="left")


def _rows(part: pd.DataFrame, names: list, label: int) -> pd.DataFrame:
    return part[part["label"] == label].set_index("region").reindex(names)


def _bars(axes, part: pd.DataFrame, names: list) -> None:
    for label, (name, colour, shift) in GROUPS.items():
        rows = _rows(part, names, label)
        error = np.c_[rows["mean"] - rows["low"], rows["high"] - rows["mean"]].T.clip(0)
        axes.barh(
            np.arange(len(names)) + shift,
            rows["mean"],
            0.38,
            color=colour,
            xerr=error,
            error_kw={"lw": 0.7},
            label=name,
        )
    axes.axvline(0, color="black", lw=0.5)


def _means(axes, part: pd.DataFrame, names: list, colour=None) -> None:
    for label, (name, own, shift) in GROUPS.items():
        rows, places = _rows(part, names, label), np.arange(len(names)) + shift
        axes.hlines(places, rows["low"], rows["high"], color=colour or own, lw=1)
        axes.plot(
            rows["mean"], places, "o", ms=2.5, color=colour or own, label=None if colour else name
        )


def _violins(axes, table: pd.DataFrame, value: str, names: list, scale=np.asarray) -> None:
    for label, (name, colour, shift) in GROUPS.items():
        rows = table[table["label"] == label]
        if rows.empty:
            continue
        wide = scale(rows.pivot_table(value, "participant_id", "region")[names].to_numpy(float))
        if len(wide) > 1:
            drawn = axes.violinplot(
                wide,
                np.arange(len(names)) + shift,
                orientation="horizontal",
                widths=0.4,
                showextrema=False,
            )
            for body in drawn["bodies"]:
                body.set(facecolor=colour, alpha=0.35)
        places = np.repeat(np.arange(len(names))[None] + shift, len(wide), 0)
        axes.plot(wide.ravel(), places.ravel(), ".", ms=1.5, color=colour)
        axes.plot([], [], "s", ms=5, color=colour, label=name)


def _finish(
    axes, names: list, quantity: str, source: pd.DataFrame, named: bool = True, legend: bool = False
) -> None:
    """Names at the left, the first on top, and a star at the right of each that differs."""
    axes.set_yticks(range(len(names)), names if named else [""] * len(names), fontsize=6.5)
    axes.set(ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel(quantity, fontsize=7)
    axes.tick_params(axis="x", labelsize=6.5)
    if legend:
        axes.legend(loc="upper left", bbox_to_anchor=(1.05, 1.0))
    else:
        axes.xaxis.get_major_locator().set_params(nbins=3)
    for name in (
        sorted(set(source.loc[source["p_fwe"] < 0.05, "region"]) & set(names))
        if "p_fwe" in source
        else ()
    ):
        axes.text(
            1.0,
            names.index(name),
            "★",
            transform=axes.get_yaxis_transform(),
            fontsize=6,
            va="center",
        )
