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
# # 07 · Do the heatmaps find the lesions?
#
# LRP rules and other ways of explaining, beside baselines that know nothing of the network's training, against the lesion masks.
# **Research software: not for clinical use.**
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5`, `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/quality/<variant>/`: scores, league, summary, checks, controls, what was left out, figures; `provenance.json` last |
# | takes | about 4 minutes for 23 scans and 2 trials at width 16 |
#
# A rule finds lesions only where the paired interval of its difference to the *strongest* baseline lies above 0.

# %%
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.lrp import heatmaps
from msxai.model import network
from msxai.quality import league, model_states, reference_maps
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # variant of 03_fine_tuning
trials: int = 2  # trials of the variant; a map is their mean
weights: str = ""  # in place of the variant's trials: one weights file (.npz)
width: int = 16  # filters of each convolution: of the untrained network
part: str = "holdout"  # part of the split that is measured; the baselines are tuned on training and validation
rules: list = ["epsilon", "alpha2_beta1", "epsilon_plus", "epsilon_plus_flat", "epsilon_half_gamma_box",
               "epsilon_gamma"]  # LRP rules and composites  # fmt: skip
methods: list = ["gradient", "input_x_gradient", "guided_backpropagation"]  # other ways of explaining (msxai.lrp.METHODS)
examined: list = ["epsilon", "epsilon_half_gamma_box",
                  "brightness"]  # maps that are examined: deletion and insertion, new weights, conservation, jitter  # fmt: skip
checked: int = 8  # scans that they are examined on
permuted: str = ""  # variant of 03_fine_tuning that was trained on permuted labels: one more control
shown: list = []  # maps in the figure of one scan; none named: all
compared: int = 5  # scans with lesions on which networks in several states are compared; 0: none
folder: str = "quality"  # of the results: another name for another choice of maps
epsilon: float = 1e-3  # stabiliser of the epsilon rule
copies: int = 1  # shifted and mirrored copies of a scan that a map is the mean over: 8 find more lesions, in 8 times the time
seed: int = 0  # of the random map, the untrained network, the bootstrap
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
trained = heatmaps.trained(where, variant, trials, weights, cohort)
unlearnt = heatmaps.trained(where, permuted, 1, "", cohort) if permuted else []
place = where.quality(variant, folder)
rows = prepared.rows(part)

# %% [markdown]
# ## Baselines
# Tuned on validation subjects; the prior is the mean lesion mask of the training part. Without lesion masks what needs them is left out.

# %%
tuned, words = reference_maps.attempt(prepared)
print(words)

# %% [markdown]
# ## Every map of every scan
# Measured subject by subject, never over the voxels of several.

# %%
options = {"rules": rules, "methods": methods, "epsilon": epsilon, "examined": examined, "checked": checked, "width": width,
           "seed": seed, "threads": threads, "permuted": unlearnt, "copies": copies}  # fmt: skip
found = league.compare(prepared, rows, trained, tuned, **options)
ranking, summary = league.league(found, seed), league.summary(found, seed)
for what, why in found.left_out.items():
    print(f"{what}: left out, as {why}")

# %%
figure, source = figures.league(ranking, synthetic=prepared.synthetic, why=found.left_out.get("league", ""), variant=variant)
record = provenance.record(run, [where.prepared(cohort), *trained, *unlearnt])
figures.save(figure, place, "fig_league", source, record, svg=True)
figure

# %% [markdown]
# ## When not to trust a map
# Deletion and insertion: does the logit follow what the map marks? New weights from the output down: a map that stays says nothing, and
# eMPRT above 0 says that it became more disordered. Registration jitter: the map of a scan that was moved a little, moved back.
# Conservation: what biases and the stabiliser keep of the logit. Dose: do heavier lesion loads get more relevance? Contrast: near 1, maps
# tell patients and controls apart by nothing. New weights, jitter and conservation are of the scan as it is, whatever `copies`
# says.

# %%
figure, source = figures.checks(summary, found.checks, synthetic=prepared.synthetic, variant=variant)
figures.save(figure, place, "fig_checks", source, record)
figure

# %% [markdown]
# ## The same maps of networks that have learnt nothing
# Random weights, and a training on permuted labels where there is one (`permuted`). `difference`: what learning the disease brought.

# %%
controls = league.controls(found, seed)
controls.query("measure == 'auprc'").round(3) if len(controls) else "left out, as no lesions are known"

# %% [markdown]
# ## One scan
# Patient with the median lesion volume. Outline: lesions.

# %%
row, maps = found.example
maps = {parameters.one_of("shown", name, maps): maps[name] for name in shown or maps}
figure, source = figures.contest(prepared, row, maps, found.scores, synthetic=prepared.synthetic)
figures.save(figure, place, "fig_contest", source, record)
figure

# %% [markdown]
# ## Has the network been trained?
# The same methods on the network as it is, as its fine-tuning began, and with random weights (item 14 of the paper). A method that finds
# as many lesion voxels with random weights shows where the scan is bright. Such a test can reject a method, not rank methods.

# %%
some = [row for row in rows if prepared.lesions(row).any()][:compared]
models, files, missing = model_states.networks(where, variant, trials, cohort, seed, weights)
sources = [where.prepared(cohort), *files]
if compared:
    methods_found, _ = model_states.write(where.states(variant), prepared, some, models, run, sources, missing, seed=seed)
print(*(f"{state}: left out, as {reason}" for state, reason in missing.items()), sep="\n")
methods_found if compared else "left out (compared: 0)"

# %% [markdown]
# ## Summary

# %%
tables = {"scores": found.scores, "league": ranking, "summary": summary, "checks": found.checks, "randomisation": found.cascades,
          "controls": controls}  # fmt: skip
league.save(place, tables, run, [where.prepared(cohort), *trained, *unlearnt], found.left_out)
(summary if ranking.empty else ranking[["map", "baseline", "auprc", "rma", "rra", "pointing"]]).round(3)
