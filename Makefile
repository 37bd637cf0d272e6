# `make` alone lists the targets. Each target that needs Python sets up .venv first (once, and again when a lock changes).
.DEFAULT_GOAL := help
.PHONY: help setup atlases test test-long figures quality paper smoke cv run lab docs lint pairs lock clean plan shipped-weights gpu-check beside $(addprefix proof-,lesion-regions phantom preparation filling filling-real counterfactual generalisation permutation lrp-speed lrp-stream training-speed regions transfer shortcut localisation search wide mutants sight plan kills bad-input real planted new-lesions one-scan-speed slurm scale series-profile gpu real-against-simulated real-ways beside gpu-processor backends artefact)
SHELL := /bin/sh
PY := .venv/bin/python
SNAKEMAKE := .venv/bin/snakemake --snakefile workflow/Snakefile
# Only one run at a time writes to a results folder; after a kill the same command goes on.
ALONE := $(PY) tools/run_alone.py
TEST := sh tools/test.sh
TRIALS := 0 1 2
UV ?= uv
PROFILE ?= demo
# Trials of the pre-training for lesions whose networks the package brings.
SHIPPED := 0 1 2 3
SCHEDULER ?= local

# What a user writes is text. make itself would take a dollar in it for a variable or a command, and so would the
# shell if the text stood in a recipe. Recipes and scripts read these from the environment: "$$COHORT".
TAKEN := COHORT PROFILE SCHEDULER PRETRAINING PATIENTS CONTROLS LABEL MODALITY HOLDOUT RESULTS
TAKEN += BOX GPU PYTHON DEB LAB RUN OTHER UV SURE MINUTES
$(foreach name,$(TAKEN),$(eval override export $(name) := $$(value $(name))))
ifneq ($(filter-out 0 1 2 3 4 5 6 7 8 9,$(value TRIALS) $(value SHIPPED)),)
$(error TRIALS and SHIPPED are numbers of trials, 0 to 9, with blanks between them)
endif

# Without a grammar that Jupyter's programs build and do not need: 6 s less for each notebook.
# A user's own PYTHONPATH is left out: packages in it would take the place of the locked ones.
export PYTHONPATH := $(CURDIR)/tools/quick_start

# Snakemake and Jupyter write below the home folder; where nobody may write there, they get another one.
# Writing there is tried: permissions say nothing of a full quota, or of root on a read-only disk.
ifneq ($(shell file=$$(mktemp "$$HOME/.msxai-XXXXXX" 2>/dev/null) && rm -f "$$file" && echo yes),yes)
export HOME := $(CURDIR)/runs/.home
export PIP_NO_CACHE_DIR := 1
$(shell mkdir -p runs/.home)
endif

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 28

setup: ## make .venv from the locks, once (GPU=1: for a computer with an NVIDIA GPU; PYTHON=/path/to/python3.12 chooses the Python)
	@sh tools/setup.sh

atlases: ## get the atlas of white-matter tracts into data/atlases (DEB=/path/to/mricron-data_all.deb: from a copy)
	@sh tools/atlases.sh

test: setup ## what shows that a change is right: tests, examples, linters, the series once on a tiny cohort (about 10 minutes on 2 slow cores). BOX=lrp: one box
	$(TEST) -m "not long"

test-long: setup ## the tests that take longer, each marked with the reason (about 45 minutes more). BOX=lrp: one box
	$(TEST) -m long

figures: setup ## run the whole series on the simulated cohorts and draw the figures into figures/demo (20 to 30 minutes on two idle cores)
	@sh tools/atlases.sh || echo "figures: going on without JHU's tracts; what needs them is left out and says so" >&2
	$(ALONE) runs/demo $(SNAKEMAKE) --configfile workflow/demo.yaml --workflow-profile workflow/local
	@$(PY) tools/copy_figures.py runs/demo/figures figures/demo .png .svg .tsv .json

quality: setup ## after make figures: test every LRP rule and method, draw into figures/quality (hours)
	$(ALONE) runs/demo $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/quality.yaml --workflow-profile workflow/local -- leagues
	@$(PY) tools/copy_figures.py runs/demo/league figures/quality

paper: setup ## run the paper's protocol on simulated cohorts, draw into figures/paper (days on two cores; MINUTES=9: stop then, go on with the same command)
	@sh tools/paper.sh

smoke: setup ## run the whole series on a tiny cohort in minutes; its numbers mean nothing
	$(ALONE) runs/smoke $(SNAKEMAKE) --configfile workflow/smoke.yaml --workflow-profile workflow/local

cv: setup ## cross-validate the networks on the simulated cohort, five folds, into runs/cv (hours)
	@sh tools/cv.sh

run: ## run the series on a cohort of your own: COHORT=data/my-study (more: docs/your-cohort.md)
	@sh tools/run.sh

beside: ## train on patients without controls, each beside the same scan with its lesions filled: COHORT=data/my-patients.csv (docs/patients-without-controls.md)
	@HOLDOUT="$${HOLDOUT:-0,0.25}" ON_TOP=beside sh tools/run.sh trainings

lab: setup ## open the notebooks in JupyterLab (as root in a container: make lab LAB="--allow-root --no-browser")
	cd notebooks && set -f && ../.venv/bin/jupyter lab $$LAB

docs: setup ## build the manual, site/index.html, without a network; a broken link is an error
	$(PY) tools/measured.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	@echo "docs: open site/index.html; with a search box: .venv/bin/mkdocs serve"

lint: setup ## check the format, the imports between boxes, and how easily the package reads
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	$(PY) tools/readability.py

pairs: setup ## write the notebooks' .ipynb from their .py (no outputs)
	$(PY) tools/pairs.py

lock: ## resolve the locks anew (needs uv)
	@command -v "$$UV" >/dev/null || { echo "lock: uv is needed. To get it: python3 -m pip install uv, then: make lock (or UV=/path/to/uv make lock)" >&2; exit 1; }
	"$$UV" pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade -o requirements.lock
	"$$UV" pip compile pyproject.toml --extra dev --extra docs --extra gpu --universal --python-version 3.11 --override tools/without_tensorflow.txt --constraint requirements.lock --generate-hashes --no-emit-index-url --upgrade -o requirements-gpu.lock
	echo innvestigate==2.1.2 | "$$UV" pip compile - --no-deps --generate-hashes --no-emit-index-url --no-header --no-annotate -o innvestigate.lock

clean: ## remove runs/ with all results (cohorts, figures and .venv stay): SURE=1; without it, say what would be removed
	@python=$(PY); [ -x "$$python" ] || python=python3; "$$python" tools/clean.py

proof-mutants: setup ## 64 faults planted in the package, one at a time: does a test of the same box fail? (an hour or two)
	$(PY) tools/mutants.py --write

proof-kills: setup ## kill the smoke series 20 times at random moments: does it end as without kills? (about 15 minutes)
	$(PY) benchmarks/kills.py

proof-bad-input: setup ## 500 random corruptions of tables, scans, masks, YAML and weights: is each refused or read rightly? (about 15 minutes)
	$(PY) benchmarks/bad_input.py --write

proof-real: setup ## after make figures: do maps find the lesions of eight real patients? (about an hour; needs ../shared/data)
	$(ALONE) runs/demo $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/real.yaml --workflow-profile workflow/local -- trainings
	$(PY) benchmarks/real.py runs/demo

proof-artefact: setup ## after make figures: do maps show lesions or artefacts? LRP beside SmoothGrad, GradCAM and others (about two hours)
	$(ALONE) runs/demo $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/quality.yaml --workflow-profile workflow/local -- runs/demo/finetuning/pairs/trial-0/provenance.json
	$(PY) benchmarks/artefact_or_signal.py runs/demo

proof-beside: setup ## after make figures: train on eight real patients in turn, without controls; are others explained better? (about 50 minutes; needs ../shared/data)
	$(PY) benchmarks/beside.py runs/demo

proof-lesion-regions: setup ## lesions by the person's own ventricles and cortex: do the regions agree with a rater's? (about 15 minutes; needs ../shared/data)
	$(PY) benchmarks/regions_of_lesions.py

proof-real-against-simulated: setup ## where do simulated and real scans differ? (about 8 minutes; needs ../shared)
	$(PY) benchmarks/real_against_simulated.py

proof-real-ways: setup ## does it help to show a real scan to the networks in another way? (about 20 minutes; needs ../shared/data)
	$(PY) benchmarks/real_ways.py

proof-new-lesions: setup ## two visits of a real patient: does the change of the map show the published change? (about 5 minutes; needs ../shared/data)
	$(PY) benchmarks/new_lesions.py

proof-planted: setup ## plant faults into the files of a simulated patient: does msxai explain notice them? (about 15 minutes)
	$(PY) benchmarks/planted.py --write

proof-one-scan-speed: setup ## time and memory of msxai explain (about 10 minutes)
	$(PY) benchmarks/one_scan_speed.py

proof-scale: setup ## what do 10,000 scans need, and what breaks first? (about 40 minutes, 8 GB of disk)
	$(PY) benchmarks/scale.py

proof-series-profile: setup ## after make figures: which notebooks, and which of their cells, take longest? (runs nothing)
	$(PY) benchmarks/series_profile.py runs/demo

proof-slurm: setup ## the smoke series on a simulated Slurm cluster: the same results? (about 20 minutes; needs Debian's slurm-wlm and munge)
	$(PY) benchmarks/slurm.py

proof-phantom: setup ## compare the simulated cohorts with real scans
	$(PY) benchmarks/phantom_realism.py

proof-preparation: setup ## prepare 921 scans: time and memory by number of scans
	$(PY) benchmarks/preparation.py

proof-filling: setup ## can a classifier distinguish filled from untouched white matter?
	$(PY) benchmarks/filling.py

proof-filling-real: setup ## the same on real scans, by centre (about 5 minutes; needs ../shared/data)
	$(PY) benchmarks/filling_real.py

proof-counterfactual: setup ## what do the demo's networks say when lesions, or other sites, are filled?
	$(PY) benchmarks/counterfactual.py

proof-generalisation: setup ## test the demo's networks on further simulated subjects
	$(PY) benchmarks/generalisation.py

proof-permutation: setup ## train on permuted labels, and detect a planted leak
	$(PY) benchmarks/permutation.py

proof-lrp-speed: setup ## time and memory of LRP, iNNvestigate and a plain gradient
	$(PY) benchmarks/lrp_speed.py

proof-lrp-stream: setup ## explain 1,000 volumes: does memory grow?
	$(PY) benchmarks/lrp_stream.py

proof-training-speed: setup ## time and memory of the fast network and of plain Keras
	$(PY) benchmarks/training_speed.py

proof-regions: setup ## tests of regions: rate of false positives, and a planted effect
	$(PY) benchmarks/region_null.py

proof-transfer: setup ## the demo's networks on two real patients (needs ../shared)
	$(PY) benchmarks/transfer.py

proof-localisation: setup ## after make quality: what makes a heatmap find lesions? (about 45 minutes)
	$(PY) benchmarks/localisation.py

proof-shortcut: setup ## do heatmaps alone detect planted shortcuts? (about 10 minutes)
	$(PY) benchmarks/shortcut.py

proof-search: setup ## after make quality: which rule finds lesions best? (about 30 minutes)
	$(PY) benchmarks/search.py

shipped-weights: setup ## train the networks that the package brings, on simulated pairs alone, and copy them into the package (half an hour each)
	$(ALONE) runs/sight $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/sight.yaml --workflow-profile workflow/local -- $(SHIPPED:%=runs/sight/pretraining/lesions/trial-%/provenance.json)
	$(PY) tools/ship_weights.py runs/sight lesions $(SHIPPED)
	$(PY) tools/ship_reference.py
	$(PY) tools/ship_visits.py

gpu-check: setup ## does this environment see a GPU, and does the GPU compute what a processor does? How many volumes a second?
	@$(PY) tools/gpu_check.py

plan: setup ## how long does a profile take, and how much memory and disk? PROFILE=paper (nothing is run)
	@$(PY) tools/plan.py "$$PROFILE"

proof-plan: setup ## after make figures: seconds and megabytes of each notebook's unit of work, for make plan
	$(PY) tools/plan.py --measure runs/demo

proof-sight: setup ## which pre-training and fine-tuning make networks see lesions, by labels alone? (hours)
	$(ALONE) runs/sight-without $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/sight.yaml workflow/sight-without.yaml --workflow-profile workflow/local -- $(TRIALS:%=runs/sight-without/pretraining/trial-%/provenance.json)
	$(ALONE) runs/sight-early $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/sight.yaml workflow/sight-early.yaml --workflow-profile workflow/local -- $(TRIALS:%=runs/sight-early/pretraining/lesions/trial-%/provenance.json)
	$(ALONE) runs/sight $(SNAKEMAKE) --configfile workflow/demo.yaml workflow/sight.yaml --workflow-profile workflow/local -- trainings
	$(PY) benchmarks/sight_ladder.py runs/sight

proof-backends: setup ## RUN and OTHER are results folders of the same networks on two backends: do their tables and maps agree? (runs nothing)
	$(PY) benchmarks/backends.py "$$RUN" "$$OTHER"

proof-gpu-processor: setup ## the table of proof-gpu without a GPU: PyTorch and JAX on this processor (10 minutes a call; a further call goes on)
	$(PY) benchmarks/gpu.py --cpu

proof-gpu: setup ## on a GPU: volumes a second and memory of training and LRP, by backend, width, float type and batch (10 minutes a call; a further call goes on)
	$(PY) benchmarks/gpu.py

proof-wide: setup ## compare the paper's width 64 with 16, trained in pairs (needs a GPU and make setup GPU=1)
	KERAS_BACKEND=torch $(PY) benchmarks/wide.py
