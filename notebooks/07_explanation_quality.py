# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Explanation quality
#
# **Question.** Do the heatmaps find the lesions, and do they show what the network uses? LRP rules
# and other methods are compared with reference maps (also called baselines) that do not use the
# trained network. **This is research software. It is not for clinical use.**
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` |
# | | `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/quality/<variant>/`: tables, figures and, last, `provenance.json` |
# | | `<results>/states/<variant>/`: maps of the network before and after its training |
# | takes | about 4 minutes for 23 scans and 2 trials at width 16 |
#
# A rule finds lesions only if its paired difference to the *strongest* baseline has an interval
# above 0. The page [docs/explanation-quality.md](../docs/explanation-quality.md) explains each
# measure and its source.

# %%
from msxai import lrp
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.lrp import heatmaps
from msxai.model import network
from msxai.quality import faithfulness, league, localisation, model_states, reference_maps
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # variant of 03_fine_tuning
trials: int = 2  # trials of the variant; a map is their mean
weights: str = ""  # in place of the variant's trials: one weights file (.npz)
width: int = 16  # filters of each convolution: of the untrained network
split_part: str = "holdout"  # part of the split that is measured
rules: list = [  # LRP rules and composites (msxai.lrp.rules)
    "epsilon",
    "alpha2_beta1",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_half_gamma_box",
    "epsilon_gamma",
]
methods: list = ["gradient", "input_x_gradient", "guided_backpropagation"]  # besides LRP
checked_maps: list = ["epsilon", "epsilon_half_gamma_box", "brightness"]  # see "When not to trust"
n_checked_scans: int = 5  # scans that they are checked on
permuted: str = ""  # variant of 03_fine_tuning trained on permuted labels: one more control
figure_maps: list = []  # maps in the figure of one scan; none named: all
n_state_scans: int = 5  # scans with lesions for networks in several states; 0: none
state_rule: str = "epsilon"  # LRP rule for networks in several states
folder: str = "quality"  # of the results: another name for another choice of maps
epsilon: float = 1e-3  # stabiliser of the epsilon rule
tta_copies: int = (
    1  # shifted and mirrored copies that a map is the mean over; 8 take 8 times as long
)
seed: int = 0  # of the random map, the untrained network, the bootstrap
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
rows = prepared.rows(split_part)
trained = heatmaps.trained(where, variant, trials, weights, cohort)
trained_on_permuted = heatmaps.trained(where, permuted, 1, "", cohort) if permuted else []
quality_folder = where.quality(variant, folder)

# %% [markdown]
# ## One scan by hand
# $R^+$ is the map with negative values set to 0. $G$ is the lesion mask, and $n = |G|$ is its
# number of voxels.
#
# | measure | formula | chance |
# |---|---|---|
# | relevance mass accuracy (rma) | $\sum_{G} R^+ / \sum R^+$ | share of lesions in the brain |
# | relevance rank accuracy (rra) | share of the $n$ highest voxels in $G$ | the same |
# | auprc | average precision of $R^+$ for $G$ in the brain | the same |
# | pointing | 1 if the maximum touches a lesion | small |
#
# Mass and rank accuracy are from Arras et al. 2022,
# [doi:10.1016/j.inffus.2021.11.008](https://doi.org/10.1016/j.inffus.2021.11.008).

# %%
lesioned = reference_maps.with_lesions(prepared, rows)
row = lesioned[0] if len(lesioned) else rows[0]
scan = prepared.image(row)
brain = prepared.brain(row)
lesions = prepared.lesions(row) & brain
net = network.restore(trained[0])
computation = lrp.Computation(threads=threads)
explanation = lrp.explain(
    net, scan[None, ..., None], "epsilon", epsilon=epsilon, computation=computation
)
relevance = explanation.relevance[0, ..., 0]
print(f"{prepared.table['participant_id'][row]}: {lesions.sum()} lesion voxels")
print(f"logit {explanation.logits[0]:.3f}, sum of relevance {relevance.sum():.3f}")

# %%
if lesions.any():
    positive = localisation.positive(relevance)
    print(f"rma by hand: {positive[lesions].sum() / positive.sum():.4f}")
    for name, value in localisation.measure(relevance, lesions, brain).items():
        print(f"{name}: {value:.4f}")

# %% [markdown]
# **Deletion.** The voxels of highest relevance are replaced by values of normal tissue: first 0.1 %
# of the brain, then more. If the map is faithful, the logit falls faster than in a random order
# (Samek et al. 2017, [doi:10.1109/TNNLS.2016.2599820](https://doi.org/10.1109/TNNLS.2016.2599820)).

# %%
filled = faithfulness.fill(scan, brain, seed, mask=lesions)
exchange = faithfulness.Exchange(scan, filled, brain)
logit = faithfulness.logit_of(net, threads)
logits = exchange.deletion(logit, relevance)
print(f"logit {logit(scan):.3f}")
for share, value in zip(exchange.steps, logits, strict=True):
    print(f"{share:6.1%} of the brain replaced: logit {value:.3f}")

# %% [markdown]
# ## Baselines
# Five reference maps do not use the trained network: random noise, LRP of the untrained network,
# edges of the scan, brightness of the scan, and the prior. The prior is the mean lesion mask of the
# training part. The maps are tuned on validation subjects. Without lesion masks, edges and prior
# are left out.

# %%
tuned, words = reference_maps.attempt(prepared)
print(words)

# %% [markdown]
# ## Every map of every scan
# Each measure is computed for each scan. Voxels of different scans are never pooled.

# %%
settings = league.Settings(
    rules=rules,
    methods=methods,
    checked_maps=checked_maps,
    n_checked_scans=n_checked_scans,
    width=width,
    epsilon=epsilon,
    tta_copies=tta_copies,
    seed=seed,
    threads=threads,
)
comparison = league.compare(prepared, rows, trained, tuned, settings, trained_on_permuted)
for name, reason in comparison.left_out.items():
    print(f"{name}: left out, because {reason}")

# %% [markdown]
# **What to look for:** a rule has a difference to the strongest baseline with an interval above 0.
# **A bad result:** brightness is the strongest baseline, and no rule is better. A threshold on the
# scan then finds lesions at least as well as the map.

# %%
ranking = league.rank(comparison, seed)
figure, source = figures.league(
    ranking,
    synthetic=prepared.synthetic,
    why=comparison.left_out.get("league", ""),
    variant=variant,
)
inputs = [where.prepared(cohort), *trained, *trained_on_permuted]
record = provenance.record(run, inputs)
figures.save(figure, quality_folder, "fig_league", source, record, svg=True)
figure

# %% [markdown]
# ## When not to trust a map
# The maps in the parameter `checked_maps` are checked on a few scans, without shifted or mirrored
# copies.
#
# | check | good | bad |
# |---|---|---|
# | deletion, insertion | above 0: the logit follows the map | 0: no better than random |
# | new weights: SSIM, rank | near 0, or near the shuffled map | near 1: the map ignores training |
# | new weights: eMPRT (entropy of the map) | above 0: the map loses its order | 0 |
# | jitter: the scan is moved | near the value of a map that was only interpolated | far below |
# | conservation error | 0; without biases at most 0.0001 | large: biases absorb the relevance |
# | dose | near 1: relevance grows with lesion volume | 0 |
# | contrast: correlation of mean maps | low | 1: the maps do not distinguish the groups |

# %%
summary = league.summary(comparison, seed)
figure, source = figures.checks(
    summary, comparison.checks, synthetic=prepared.synthetic, variant=variant
)
figures.save(figure, quality_folder, "fig_checks", source, record)
figure

# %% [markdown]
# ## The same maps of networks that have not learnt the disease
# There are two such control networks. One has random weights. The other was trained on permuted
# labels (`permuted`), if this training exists. `difference` is trained network minus control
# network. **What to look for:** the interval lies above 0. **A bad result:** the interval includes
# 0. The map may then find lesions equally well without the training.

# %%
controls = league.controls(comparison, seed)
if controls.empty:
    print("controls: left out, because no lesions are known")
controls[controls["measure"] == "auprc"].round(3) if len(controls) else controls

# %% [markdown]
# ## Maps of one scan
# The figure shows the patient with the median lesion volume. Colour is positive relevance, and
# outlines are lesions.

# %%
example, maps = comparison.example
for name in figure_maps:
    parameters.one_of("figure_maps", name, maps)
drawn = {name: maps[name] for name in figure_maps or maps}
figure, source = figures.contest(
    prepared, example, drawn, comparison.scores, synthetic=prepared.synthetic
)
figures.save(figure, quality_folder, "fig_contest", source, record)
figure

# %% [markdown]
# ## Does the map need the training?
# The same methods are run on the fine-tuned network, on the network before fine-tuning, and on a
# network with random weights (item 14 of the paper). **What to look for:** the map of random
# weights marks fewer lesion voxels. **A bad result:** it marks as many. The method then shows where
# the scan is bright. This test can reject a method. It cannot rank methods.

# %%
state_rows = [row for row in rows if prepared.lesions(row).any()][:n_state_scans]
networks = model_states.networks(where, variant, trials, cohort, seed, weights)
for state, reason in networks.left_out.items():
    print(f"{state}: left out, because {reason}")

# %%
by_method = "left out, because n_state_scans is 0"
if n_state_scans:
    states_folder = where.states(variant)
    options = model_states.Options((state_rule, *model_states.GRADIENTS), seed, threads)
    by_method, _ = model_states.write(states_folder, prepared, state_rows, networks, run, options)
by_method

# %% [markdown]
# ## Summary

# %%
tables = {
    "scores": comparison.scores,
    "league": ranking,
    "summary": summary,
    "checks": comparison.checks,
    "randomisation": comparison.cascades,
    "controls": controls,
}
league.save(quality_folder, tables, run, inputs, comparison.left_out)

# %%
columns = ["map", "baseline", "auprc", "rma", "rra", "pointing"]
(summary if ranking.empty else ranking[columns]).round(3)
