# `make` alone lists what there is. Every target that needs Python sets .venv up first (once; again only when a lock changes).
.DEFAULT_GOAL := help
.PHONY: help setup atlases test test-long figures quality smoke cv run lab docs lint pairs lock clean $(addprefix proof-,phantom preparation filling counterfactual generalisation permutation lrp-speed lrp-stream training-speed regions transfer shortcut localisation search wide)
SHELL := /bin/sh
PY := .venv/bin/python
SNAKEMAKE := .venv/bin/snakemake --snakefile workflow/Snakefile
PYTEST := $(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
TESTED = $(if $(BOX),tests/$(BOX) $(wildcard msxai/$(BOX)),tests msxai)
UV ?= uv
PROFILE ?= demo
SCHEDULER ?= local
export COHORT PROFILE SCHEDULER PRETRAINING PATIENTS CONTROLS LABEL MODALITY HOLDOUT # for tools/run.sh

# Snakemake and Jupyter write below the home folder; where nobody may write there, they get another one.
ifneq ($(shell [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo yes),yes)
export HOME := $(CURDIR)/runs/.home
export PIP_NO_CACHE_DIR := 1
$(shell mkdir -p runs/.home)
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 28

setup: ## make .venv from the locks ($PYTHON, else the first of 3.13, 3.12, 3.11 that runs)
	@sh tools/setup.sh

atlases: ## JHU white-matter labels out of Debian's mricron-data into data/atlases, without root ([DEB=/path/to/mricron-data_all.deb])
	@DEB='$(DEB)' sh tools/atlases.sh

test: setup ## what shows that a change is right: tests, examples, linters, the series once on a tiny cohort (at most 10 minutes). BOX=lrp: one box
	$(PYTEST) -m "not long" $(TESTED)

test-long: setup ## the tests that take longer, each marked with the reason (at most 45 minutes). BOX=lrp: one box
	$(PYTEST) -m long $(TESTED)

figures: setup ## the paper's main figures for the embedded synthetic cohort, into figures/demo (about 25 minutes)
	@sh tools/atlases.sh || echo "figures: going on without JHU's tracts; what needs them is left out and says so" >&2
	$(SNAKEMAKE) --configfile workflow/demo.yaml --workflow-profile workflow/local
	@mkdir -p figures/demo && rm -f figures/demo/*
	@for kind in png svg tsv json; do for file in runs/demo/figures/*.$$kind; do [ ! -f "$$file" ] || cp "$$file" figures/demo/ || exit 1; done; done
	@echo "figures/demo: $$(ls figures/demo | wc -l) files"

quality: setup ## every rule and method against the lesions, for the demo's variants and one trained in pairs, into figures/quality (after make figures)
	$(SNAKEMAKE) --configfile workflow/demo.yaml workflow/quality.yaml --workflow-profile workflow/local -- leagues
	@rm -rf figures/quality && mkdir -p figures/quality && cp -R runs/demo/league/. figures/quality

smoke: setup ## the whole series in minutes on a tiny network; its numbers mean nothing
	$(SNAKEMAKE) --configfile workflow/smoke.yaml --workflow-profile workflow/local

cv: setup ## cross-validation of the networks on the embedded cohort, five folds, into runs/cv
	@sh tools/cv.sh

run: ## the series on a cohort of your own: COHORT=data/mine [PROFILE=demo|paper|smoke] [SCHEDULER=local|slurm] [PATIENTS= CONTROLS= HOLDOUT=] ...
	@sh tools/run.sh

lab: setup ## JupyterLab in notebooks/
	cd notebooks && ../.venv/bin/jupyter lab

docs: setup ## build the manual, site/index.html, without the network; a broken link is an error
	$(PY) tools/measured.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "docs: open site/index.html"

lint: setup ## ruff, the format, the layers between the modules, how easily the package reads
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	$(PY) tools/readability.py

pairs: setup ## make or update the notebooks' .ipynb from their .py (no outputs)
	$(PY) tools/pairs.py

lock: ## resolve both locks anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "lock: uv is needed. To get it: python3 -m pip install uv, then: make lock (or UV=/path/to/uv make lock)" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade -o requirements.lock
	echo innvestigate==2.1.2 | $(UV) pip compile - --no-deps --generate-hashes --no-emit-index-url --no-header --no-annotate -o innvestigate.lock

clean: ## remove runs/ (results; cohorts, figures and .venv stay)
	rm -rf runs

proof-phantom: setup ## compare the embedded cohorts with the measured figures of real scans
	$(PY) benchmarks/phantom_realism.py

proof-preparation: setup ## 921 scans prepared: memory, and time by number of scans
	$(PY) benchmarks/preparation.py

proof-filling: setup ## filled white matter beside untouched, for a classifier of patches
	$(PY) benchmarks/filling.py

proof-counterfactual: setup ## what the demo's networks say once lesions, or sham sites, are filled
	$(PY) benchmarks/counterfactual.py

proof-generalisation: setup ## the trained networks on further simulated subjects
	$(PY) benchmarks/generalisation.py

proof-permutation: setup ## permuted labels and a planted leak
	$(PY) benchmarks/permutation.py

proof-lrp-speed: setup ## msxai.lrp beside innvestigate and a plain gradient: time and memory
	$(PY) benchmarks/lrp_speed.py

proof-lrp-stream: setup ## 1,000 volumes explained without growth of memory
	$(PY) benchmarks/lrp_stream.py

proof-training-speed: setup ## the fast network beside the plain Keras one
	$(PY) benchmarks/training_speed.py

proof-regions: setup ## tests of regions: false positives where nothing is, a planted effect found
	$(PY) benchmarks/region_null.py

proof-transfer: setup ## the demo's networks on two real patients, as they are and with lesions filled (needs ../shared)
	$(PY) benchmarks/transfer.py

proof-localisation: setup ## what makes a heatmap find lesions: training, number of networks and copies, rule (after make quality; about 45 minutes)
	$(PY) benchmarks/localisation.py

proof-shortcut: setup ## are shortcuts, planted in 20 cohorts and not in 20, told by the heatmaps alone? (about 10 minutes of one core)
	$(PY) benchmarks/shortcut.py

proof-search: setup ## which rule, epsilon, gamma and width finds lesions: chosen on one part of a benchmark, reported on another (after make quality; about half an hour)
	$(PY) benchmarks/search.py

proof-wide: setup ## the paper's width 64 beside 16, trained in pairs (needs a GPU, and PyTorch in .venv: .venv/bin/python -m pip install torch)
	KERAS_BACKEND=torch $(PY) benchmarks/wide.py
