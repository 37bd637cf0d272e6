"""Workflow, profiles and notebooks agree with one another; nothing is run."""

import json
import os
import re
import subprocess
from collections import Counter

import grimp
import jupytext
import pytest
import yaml
from support.checkout import OF_COMMANDS, Checkout, parameters_cell

import msxai

ALL_NOTEBOOKS = {path.stem for path in (msxai.ROOT / "notebooks").glob("*.py")}
NOTEBOOKS = sorted(ALL_NOTEBOOKS - set(OF_COMMANDS))


def test_rules_name_every_module_that_their_notebook_needs():
    """And no folder that it does not need.

    Figures are drawn in most notebooks and decide the results of 08 and 09 alone.
    """
    graph = grimp.build_graph("msxai")
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    space: dict = {}
    exec(text[text.index("DATA =") : text.index("def code(")], space)
    for notebook, listed in space["CODE"].items():
        draws = notebook in ("08_figures", "09_results_page")
        source = (msxai.ROOT / "notebooks" / f"{notebook}.py").read_text()
        needed = set()
        for package, names in re.findall(r"^from (msxai[\w.]*) import (.+)$", source, re.MULTILINE):
            for name in names.split(", "):
                module = f"{package}.{name}" if f"{package}.{name}" in graph.modules else package
                if module.startswith("msxai.report.figures") and not draws:
                    continue
                needed |= {module} | graph.find_upstream_modules(module)
        packages = {name for name in needed if graph.find_children(name)} | {"msxai"}
        needed -= packages
        for entry in listed:
            folder = "msxai." + entry.removesuffix(".py").replace("/", ".")
            covered = {name for name in needed if name == folder or name.startswith(f"{folder}.")}
            assert covered, f"{notebook} does not need {entry}"
            needed -= covered
        assert not needed, notebook


def test_defaults_of_the_notebooks_are_the_demo_profile():
    config = yaml.safe_load((msxai.ROOT / "workflow" / "demo.yaml").read_text())
    first = next(iter(config["variants"].items()))
    stage = {
        "01_data_preparation": config["cohorts"]["finetuning"],
        "01b_lesion_filling": {"filling": "noise"},
        "03_fine_tuning": {"variant": first[0], **first[1], "trial": 0},
        "02_pretraining": {"cohort": config["pretraining_cohort"], "trial": 0},
        "04_evaluation": {
            "variants": list(config["variants"]),
            "trials": config["trials"]["finetuning"],
            "trials_of": {
                name: options["trials"]
                for name, options in config["variants"].items()
                if "trials" in options
            },
        },
        "05_lrp_heatmaps": {
            "variant": config["heatmaps"],
            "trials": config["trials"]["finetuning"],
        },
        "06_region_relevance": {"variant": config["heatmaps"]},
        "07_explanation_quality": {
            "variant": config["heatmaps"],
            "trials": config["trials"]["finetuning"],
        },
        "08_figures": {
            "variant": config["heatmaps"],
            "filled": config["filled"],
            "best": config["best"]["variant"],
            "pretraining_trials": config["trials"]["pretraining"],
        },
        "09_results_page": {
            "variant": config["heatmaps"],
            "filled": config["filled"],
            "best": config["best"]["variant"],
            "best_rule": config["best"]["rule"],
        },
    }
    for notebook in NOTEBOOKS:
        cell = parameters_cell(jupytext.read(msxai.ROOT / "notebooks" / f"{notebook}.py"))
        space: dict = {}
        exec(cell.source, space)
        expected = {
            "cohort": config["cohort"],
            **config["common"],
            **config[notebook],
            **stage[notebook],
        }
        if notebook == "09_results_page":
            del expected["cohort"]
        assert {name: space[name] for name in expected} == expected, notebook
        assert set(space["__annotations__"]) >= set(expected)


def test_make_quality_judges_every_rule_and_method():
    """Two names say what another name says too."""
    from msxai import lrp
    from msxai.lrp import rules
    from msxai.quality import reference_maps

    config = yaml.safe_load((msxai.ROOT / "workflow" / "quality.yaml").read_text())
    options, same = (
        config["07_explanation_quality"],
        {"alpha1_beta0": "z_plus", "alpha_beta": "alpha2_beta1"},
    )
    assert set(options["rules"]) == set(rules.NAMES) - set(same)
    assert set(options["methods"]) == set(lrp.METHODS)
    assert set(options["checked_maps"]) == {
        *options["rules"],
        *options["methods"],
        *reference_maps.NAMES,
    }
    assert options["permuted"] in config["variants"]


def test_profiles_give_each_notebook_the_same_parameters():
    profiles = {}
    for name in ("demo", "smoke", "tiny"):
        config = yaml.safe_load((msxai.ROOT / "workflow" / f"{name}.yaml").read_text())
        profiles[name] = {notebook: set(config[notebook]) for notebook in NOTEBOOKS}
    for notebook in NOTEBOOKS:
        assert profiles["tiny"][notebook] == profiles["smoke"][notebook], notebook
        assert profiles["smoke"][notebook] == profiles["demo"][notebook], notebook


def test_each_trial_can_start_from_weights_of_its_own():
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    sources = {"own": "weights/lesions-{trial}.npz", "task": "lesions/trial-{trial}", "one": "best"}
    variants = {name: {"initial_weights": source} for name, source in sources.items()}
    space = {"VARIANTS": variants}
    exec(text[text.index("def source_of_weights(") : text.index("def initial_weights_of(")], space)
    exec(text[text.index("def training_of(") : text.index("def trained(")], space)
    expected = {"own": "weights/lesions-2.npz", "task": "lesions/trial-2", "one": "best"}
    for name, source in expected.items():
        assert space["source_of_weights"](name, "2") == source
        assert space["training_of"](name, "2") == {"initial_weights": source}
        assert variants[name]["initial_weights"] == sources[name]


# A stub of papermill: its first message is $MESSAGE, and from attempt $SUCCESS on it ends well.
PAPERMILL = """#!/bin/bash
echo attempt >>attempts
[ "$(wc -l <attempts)" -lt "$SUCCESS" ] || exit 0
echo "$MESSAGE" >&2
echo "WARNING | Kernel is running over TCP without encryption. All communication" >&2
echo "[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel." >&2
exit 1
"""


@pytest.mark.parametrize(
    ("message", "success", "attempts", "status"),
    [
        ("", 1, 1, 0),
        ("RuntimeError: Kernel died before replying to kernel_info", 2, 2, 0),
        ("RuntimeError: Kernel died before replying to kernel_info", 3, 2, 1),
        ("ValueError in a cell", 2, 1, 1),
    ],
)
def test_a_notebook_without_a_kernel_is_started_once_more(
    tmp_path, message, success, attempts, status
):
    """As Snakemake runs the command: by bash, with the Snakefile's own prefix."""
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    space = {"TOOLS": str(tmp_path)}
    exec(text[text.index("PREFIX =") : text.index("shell.prefix(")], space)
    exec(text[text.index("NO_NEWS =") : text.index("def executed(")], space)
    command = space["RUN"].replace("{log.notebook:q}", "'a folder/executed.ipynb'")
    command = command.replace("{params.values:q}", "'{{}}'").replace("{input.code[0]:q}", "a.py")
    command = command.replace("{{", "{").replace("}}", "}")
    stubs = {"papermill": PAPERMILL, "jupytext": '#!/bin/bash\ntouch "${@: -2:1}"\n'}
    for name, content in stubs.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MESSAGE": message,
        "SUCCESS": str(success),
    }
    result = subprocess.run(
        ["bash", "-c", space["PREFIX"] + command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    assert len((tmp_path / "attempts").read_text().splitlines()) == attempts
    assert message in result.stderr
    assert "without encryption" not in result.stderr
    assert "KeyboardInterrupt" not in result.stderr
    assert ("failed; the executed notebook" in result.stderr) == bool(status)
    assert (tmp_path / "a folder" / "executed.ipynb.messages").exists() == bool(status)


def test_all_trials_that_are_trained_are_evaluated(tmp_path):
    """Also of a variant that has another number of trials than the others."""
    # Without filled scans, whose step decides only when it runs which variants can be trained.
    variants = {"lesion-filled": {"filling": "none"}, "scratch": {"trials": 3}}
    unfilled = {"filled": "", "variants": variants}
    options = ("--dry-run", "--printshellcmds", "--quiet", "host")
    done = Checkout(tmp_path).snakemake(*options, profile="demo", config=unfilled)
    assert done.returncode == 0, done.stderr
    trained = Counter()
    commands = re.findall(r"papermill .* -y '(\{.*?\})' (\S+)", done.stdout + done.stderr)
    for values, notebook in commands:
        if "03_fine_tuning" in notebook:
            trained[json.loads(values)["variant"]] += 1
        if "04_evaluation" in notebook:
            evaluation = json.loads(values)
    assert trained["scratch"] == 3
    assert set(evaluation["variants"]) == set(trained)
    for variant in evaluation["variants"]:
        n_trials = evaluation["trials_of"].get(variant, evaluation["trials"])
        assert n_trials == trained[variant], variant


def test_a_notebook_has_as_many_cores_as_processes():
    """Two jobs that each start more processes than they have cores would slow each other."""
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    for name in NOTEBOOKS:
        (rule,) = [
            part
            for part in re.split(r"^(?:rule|checkpoint) ", text, flags=re.MULTILINE)
            if f'code("{name}")' in part and "pretrain_on_simulated_pairs" not in part
        ]
        threads = re.search(r"threads: (.+)", rule)[1] if "threads:" in rule else "1"
        notebook = jupytext.read(msxai.ROOT / "notebooks" / f"{name}.py")
        has_processes = "\njobs: int" in parameters_cell(notebook).source
        expected = f'processes("{name}")' if has_processes else "1"
        assert threads == expected, name
