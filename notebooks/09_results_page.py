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
# # 09 · Results page
#
# **Question.** Which of the paper's claims hold on this cohort? This notebook tests the claims. It
# puts all numbers, figures and executed notebooks on one page. **This is research software. It is
# not for clinical use.**
#
# | | |
# |---|---|
# | reads | the tables, figures and executed notebooks in `<results>` |
# | writes | `<results>/report/`: `index.html`, a page a notebook; `provenance.json` last |
# | takes | less than a minute |

# %%
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.report import claims, results_page

# %% tags=["parameters"]
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # the variant whose relevance is tested
filled: str = "lesion-filled"  # the variant trained on lesion-filled scans; empty: none
best: str = "pretrained-lesions"  # a variant whose claims are tested beside; empty: none
best_rule: str = "epsilon_gamma"  # the rule of its maps

# %%
run = parameters.check(globals())
where = Results(results)

# %% [markdown]
# ## One claim by hand
# Each claim is tested on one quantity with a 95 % CI over subjects. The null is the value of this
# quantity without any effect. The claim holds only if the whole interval lies above the null. The
# function `claims.verdict` decides all claims.

# %%
print("AUC 0.51 to 0.90, null 0.5:", claims.verdict(0.51, 0.90, null=0.5))
print("AUC 0.45 to 0.90, null 0.5:", claims.verdict(0.45, 0.90, null=0.5))
print("AUC 0.10 to 0.40, null 0.5:", claims.verdict(0.10, 0.40, null=0.5))

# %% [markdown]
# ## All claims
# **What to look for:** claims hold, and their intervals lie far from the null. **A bad result:** an
# interval starts just above the null. Another sample of subjects may then give another verdict. The
# verdict `cannot be told` means that the interval includes the null. It is not evidence against a
# claim. The verdict `not tested` means that something is missing. The column `reason` names it.

# %%
tables = claims.read(where, variant, filled)
claimed = claims.table(tables)
claimed[["claim", "verdict", "value", "low", "high", "null", "reason"]]

# %% [markdown]
# ## The best variant beside the paper's
# The same tests for the variant `best`, as far as it has results. If it was pre-trained on
# simulated lesions, it knows what a simulated lesion looks like. On real scans, the verdicts may
# differ. Without such a variant, the table is empty.

# %%
tables_of_best = claims.read(where, best, rule=best_rule)
tests_of_best = claims.CLAIMS_OF_BEST if best else {}
claimed_of_best = claims.table(tables_of_best, tests=tests_of_best)
claimed_of_best[["claim", "verdict", "value", "low", "high", "null", "reason"]]

# %% [markdown]
# ## The page
# Open the page in a browser. It needs no internet connection. It also says which data this cohort
# lacks, and what these results cannot show.

# %%
page = results_page.write(where, variant=variant, filled=filled, best=best, best_rule=best_rule)
evaluated = sorted(where.evaluation().glob("*.tsv"))
drawn = sorted(where.figures().glob("*.tsv"))
record = provenance.record(run, [*evaluated, *drawn], [page])
provenance.write_json(page.with_name("provenance.json"), record)
print(provenance.relative(page))
