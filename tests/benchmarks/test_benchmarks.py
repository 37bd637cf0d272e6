"""Small versions of the proofs in benchmarks/: the same code on narrow networks and few volumes;
nothing is timed here.
"""

import json
import os
import subprocess
import sys

import pytest
from support.scripts import script

from msxai import ROOT


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_engines_of_the_speed_benchmark_do_the_same_work(tmp_path):
    speed, relevance = script("lrp_speed"), {}
    speed.write_inputs(tmp_path, width=2)
    for engine, rule in (
        ("msxai", "epsilon*2"),
        ("msxai", "epsilon"),
        ("innvestigate", "epsilon"),
        ("gradient", "gradient"),
        ("gradient_pool_first", "gradient"),
    ):
        worker = speed.Worker(engine, str(tmp_path), width=2)
        for kind in ("dense", "scan"):
            seconds, memory, relevance[engine, kind] = worker.run(rule, 1, kind)
            assert seconds > 0
            assert memory > 1e8
        worker.process.stdin.close()
        worker.process.wait()
    for kind in ("dense", "scan"):
        assert relevance["msxai", kind] == pytest.approx(relevance["innvestigate", kind], rel=1e-3)
        assert relevance["gradient", kind] == pytest.approx(
            relevance["gradient_pool_first", kind], rel=1e-3
        )


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_volumes_stream_to_nifti():
    table = script("lrp_stream").measure(6, width=2, block=2)
    assert table["volumes"].tolist() == [2, 4, 6]
    assert (table["memory_gb"] > 0).all()


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_the_fast_network_trains_as_the_plain_one():
    training = script("training_speed")
    training.STEPS, training.SCANS = 8, 4
    rows, differences = training.measure(2, rounds=1)
    assert [row["network"] for row in rows] == ["plain", "fast"]
    assert differences["largest_difference_of_plain_moved_by_1e-7"] > 0
    assert differences["largest_difference_of_a_loss"] <= 1e-4
    assert differences["first_steps_within_1e-4"] == 8


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_many_scans_are_prepared():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    # in a process of its own: this one holds what other tests left (networks, workers), and its
    # memory would be counted too
    code = """
import json
import preparation
table, resampling = preparation.run(2)
print(json.dumps([table.to_dict('list'), resampling]))
"""
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    table, resampling = json.loads(printed.stdout.splitlines()[-1])
    assert table["scans"] == [1, 3, 6]
    assert max(table["peak_memory_gb"]) < 1.5
    assert resampling["difference"] <= 1e-3


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_what_filling_moves_is_measured_by_hand():
    import numpy as np
    from support.networks import with_weights
    from support.small_cohort import Cohort

    from msxai import lrp
    from msxai.model import network

    before, filled, models = (
        Cohort(),
        Cohort(),
        [with_weights(1, network.SHAPE, seed) for seed in (0, 1)],
    )
    for cohort in (before, filled):
        cohort.table, cohort.images = cohort.table.iloc[1:2], cohort.images[1:2]
        cohort.lesions, cohort.image = cohort.masks[1:2].__getitem__, cohort.images.__getitem__
    filled.images[0][before.lesions(0)] = 0  # a voxel of 0 has no relevance by the epsilon rule
    table = (
        script("transfer").moved(models, {"as it is": before, "filled": filled}).set_index("scan")
    )
    assert table["voxels_changed"].tolist() == [0, before.lesions(0).sum()]
    assert table.loc["as it is", "rank_with_before"] == pytest.approx(1)
    assert table.loc["filled", "rank_with_before"] < 1
    assert table.loc["filled", ["in_lesions", "positive_in_lesions"]].tolist() == [0, 0]
    explanations = [
        lrp.explain(model, before.image(0)[None, ..., None], "epsilon") for model in models
    ]
    assert table.loc["as it is", "logit"] == pytest.approx(
        np.mean([explanation.logits[0] for explanation in explanations])
    )
    assert table.loc["as it is", "relevance"] == pytest.approx(
        np.mean([explanation.relevance.sum() for explanation in explanations]), rel=1e-3
    )


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A search over two networks of width 1 and three rules, one brain a part in two conditions."""
    import numpy as np
    from support.networks import with_weights

    from msxai.base.errors import MissingStepError
    from msxai.model import network
    from msxai.quality import reference_maps

    module, where = (
        script("search"),
        script("search").Results(str(tmp_path_factory.mktemp("search"))),
    )
    module.NETWORKS = {"narrow": ("scratch", 2), "other": ("pairs", 1)}
    for seed, (variant, trial) in enumerate((("scratch", 0), ("scratch", 1), ("pairs", 0))):
        with pytest.raises(MissingStepError, match="make quality"):
            module.networks(where)
        network.save_weights(
            with_weights(1, network.SHAPE, seed), where.trial(variant, trial) / "weights.npz"
        )
    nets = module.networks(where)
    prior = np.random.default_rng(0).random(network.SHAPE)
    tuned = reference_maps.Tuned(("sobel", 1.0), 1.5, 0.0, prior, {})
    candidates = {
        name: module.CANDIDATES[name] for name in (module.PAPER, "flat + epsilon 0.3", "gamma 0.1")
    }
    conditions = {name: module.controlled_pairs.CONDITIONS[name] for name in ("as drawn", "few")}
    sizes = {
        "seed": 3,
        "parts": {"validation": 1, "test": 1},
        "controls": 1,
        "conditions": conditions,
        "candidates": candidates,
        "width": 1,
    }
    return module, nets, tuned, sizes


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_rules_are_searched_on_one_part_and_reported_on_the_other(search):
    import numpy as np
    from sklearn.metrics import average_precision_score

    from msxai import lrp
    from msxai.data import images
    from msxai.model import network

    module, nets, tuned, sizes = search
    assert {name: len(paths) for name, paths in nets.items()} == {"narrow": 2, "other": 1}
    table = module.run(nets, tuned, module.Sizes(**sizes))
    assert set(table["network"]) == {"baselines", "narrow", "other"}
    assert set(table.loc[table["network"] == "baselines", "candidate"]) == set(module.BASELINES)
    assert table.groupby(["network", "candidate"]).size().eq(2 * 3).all(), (
        "two conditions and a control in each part"
    )
    control = table["condition"] == "control"
    assert table.loc[control, "auprc"].isna().all()
    assert table.loc[~control, "control_ratio"].isna().all()
    assert table.loc[~control, ["auprc", "decoy_auc"]].notna().all(axis=None)
    case = next(
        case
        for case in module.controlled_pairs.cohort(3, sizes["parts"], 1, sizes["conditions"])
        if (case.part, case.condition) == ("test", "few")
    )
    image, slow = images.normalise(case.subject.image, case.subject.brain), []
    for path in nets["narrow"]:
        heatmap = lrp.explain(
            network.restore(path),
            image[None, ..., None],
            "epsilon",
            computation=lrp.Computation(threads=1),
        ).relevance[0, ..., 0]
        slow.append(
            average_precision_score(
                case.subject.lesions[case.subject.brain], np.maximum(heatmap, 0)[case.subject.brain]
            )
        )
    of_paper = table[
        (table["network"] == "narrow")
        & (table["candidate"] == module.PAPER)
        & (table["part"] == "test")
    ].set_index("condition")
    assert of_paper.loc["few", "auprc"] == pytest.approx(np.mean(slow), rel=1e-3)
    by_brain = module.brains(table)
    chosen = module.winners(by_brain)
    assert list(chosen) == ["narrow", "other", "all"]
    module.picture(module.summarised(by_brain, ["network", "candidate", "part"]), chosen)
    factors = module.factors(table, chosen)
    assert set(factors["condition"]) == {"as drawn", "few", "control"}


def test_the_default_rule_is_the_winner_and_above_epsilon():
    from msxai.lrp import rules

    record = json.loads((ROOT / "benchmarks" / "search.json").read_text())
    result, candidates = record["result"], record["parameters"]["candidates"]

    def layers(rule):
        return {
            role: rules.make(rule.get(role, "epsilon"), 1e-3).name
            for role in ("first", "convolution", "dense")
        }

    assert layers(rules.COMPOSITES[rules.DEFAULT]) == layers(candidates[result["winners"]["all"]])
    difference = result["test"]["all"]["less_epsilon"]
    assert 0 < difference["auprc_low"] < difference["auprc"] < difference["auprc_high"]


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_the_winner_is_chosen_on_the_validation_part_alone(search):
    import pandas as pd

    module = search[0]
    level = {"a": (0.3, 0.9), "b": (0.5, 0.2), module.PAPER: (0.1, 0.1)}  # validation, test
    rows = [
        {
            "network": net,
            "candidate": name,
            "part": part,
            "brain": f"{part}-{number}",
            "auprc": value + advantage + 0.01 * number,
            "rra": value,
        }
        for net, advantage in (("narrow", 0), ("wide", 0.05))
        for name, both in level.items()
        for part, value in zip(("validation", "test"), both, strict=True)
        for number in range(4)
    ]
    rows += [
        {
            "network": "baselines",
            "candidate": name,
            "part": part,
            "brain": f"{part}-{number}",
            "auprc": value,
            "rra": 0.4 - value,
        }
        for name, value in (("weak", 0.1), ("strong", 0.15))
        for part in ("validation", "test")
        for number in range(4)
    ]
    rows[0]["auprc"] += 0.5  # one brain alone does not decide it
    by_brain = pd.DataFrame(rows).assign(rma=0.0)
    chosen = module.winners(by_brain)
    assert chosen == {"narrow": "b", "wide": "b", "all": "b"}
    report = module.reported(by_brain, chosen)
    assert report["narrow"]["less_epsilon"]["auprc"] == pytest.approx(0.1)
    assert report["all"]["less_epsilon"]["auprc_low"] == pytest.approx(0.1)
    assert report["all"]["less_epsilon_by_network"]["wide"]["auprc"] == pytest.approx(0.1)
    assert report["wide"]["less_strongest_baseline"]["auprc"]["baseline"] == "strong"
    assert report["wide"]["less_strongest_baseline"]["auprc"]["auprc"] == pytest.approx(
        0.2 + 0.05 + 0.015 - 0.15
    )
    assert report["wide"]["less_strongest_baseline"]["rra"]["baseline"] == "weak"
    assert report["narrow"]["less_strongest_baseline"]["rra"]["rra"] == pytest.approx(0.2 - 0.3)
    by_brain["network"] = by_brain["network"].replace({"narrow": "width-8", "wide": "width-16"})
    report = module.width(by_brain, module.winners(by_brain))
    assert report["best"] == "width-16"
    assert report["test_less"]["width-8"]["auprc"] == pytest.approx(0.05)
