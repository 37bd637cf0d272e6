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
# All numbers beside the paper's, which of its claims hold on this cohort, all items, and the executed notebooks: one page to open.
# **Research software: not for clinical use.**
#
# | | |
# |---|---|
# | reads | the tables, figures and executed notebooks in `<results>` |
# | writes | `<results>/report/index.html`, which loads nothing from elsewhere, and a page a notebook beside it; `provenance.json` last |
# | takes | less than a minute |

# %%
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.report import claims, results_page

# %% tags=["parameters"]
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # the variant whose relevance is looked at
filled: str = "lesion-filled"  # the variant trained on scans with their lesions filled; empty: none

# %%
run = parameters.check(globals())
where = Results(results)

# %% [markdown]
# ## Claims
# A claim holds only where the whole interval lies clear of the null. Not tested: what it needs is not here, and the reason says what.

# %%
found = claims.read(where, variant, filled)
claimed = claims.table(found)
claimed[["claim", "verdict", "value", "low", "high", "reason"]]

# %% [markdown]
# ## The page

# %%
page = results_page.write(where, variant=variant, filled=filled)
sources = [path for name in ("evaluation", "figures") for path in sorted((where.folder / name).glob("*.tsv"))]
provenance.write_json(page.with_name("provenance.json"), provenance.record(run, sources, [page]))
print(provenance.relative(page))
