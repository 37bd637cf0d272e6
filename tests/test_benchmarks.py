"""Small versions of the proofs in benchmarks/: the same code on narrow networks and few volumes; nothing is timed here."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from msxai import ROOT


def script(name):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_engines_of_the_speed_benchmark_do_the_same_work(tmp_path):
    speed, found = script("lrp_speed"), {}
    speed.write_inputs(tmp_path, width=2)
    for engine, rule in (("msxai", "epsilon"), ("innvestigate", "epsilon"), ("gradient", "gradient"), ("gradient_pool_first", "gradient")):
        worker = speed.Worker(engine, str(tmp_path), width=2)
        for kind in ("dense", "scan"):
            seconds, memory, found[engine, kind] = worker.run(rule, 1, kind)
            assert seconds > 0
            assert memory > 1e8
        worker.process.stdin.close()
        worker.process.wait()
    for kind in ("dense", "scan"):
        assert found["msxai", kind] == pytest.approx(found["innvestigate", kind], rel=1e-3)
        assert found["gradient", kind] == pytest.approx(found["gradient_pool_first", kind], rel=1e-3)


def test_volumes_stream_to_nifti():
    table = script("lrp_stream").measure(6, width=2, block=2)
    assert table["volumes"].tolist() == [2, 4, 6]
    assert (table["memory_gb"] > 0).all()


def test_the_fast_network_trains_as_the_plain_one():
    training = script("training_speed")
    rows, differences = training.measure(2, rounds=1)
    assert [row["network"] for row in rows] == ["plain", "fast"]
    assert differences["largest_difference_of_plain_moved_by_1e-7"] > 0
    assert differences["largest_difference_of_a_loss"] <= 1e-4
    assert differences["first_steps_within_1e-4"] == 20


def test_many_scans_are_prepared():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    # in a process of its own: this one holds what other tests left (networks, workers), and its memory would be counted too
    code = "import json, preparation; table, resampling = preparation.run(2); print(json.dumps([table.to_dict('list'), resampling]))"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "benchmarks", env=environment, check=True, capture_output=True, text=True
    )
    table, resampling = json.loads(printed.stdout.splitlines()[-1])
    assert table["scans"] == [1, 3, 6]
    assert max(table["peak_memory_gb"]) < 1.5
    assert resampling["difference"] <= 1e-3


def test_what_filling_moves_is_measured_by_hand():
    import numpy as np
    from test_explainers import Cohort
    from test_network import with_weights

    from msxai import lrp, network

    before, filled, models = Cohort(), Cohort(), [with_weights(1, network.SHAPE, seed) for seed in (0, 1)]
    for cohort in (before, filled):
        cohort.table, cohort.images = cohort.table.iloc[1:2], cohort.images[1:2]
        cohort.lesions, cohort.image = cohort.masks[1:2].__getitem__, cohort.images.__getitem__
    filled.images[0][before.lesions(0)] = 0  # a voxel of 0 has no relevance by the epsilon rule
    table = script("transfer").moved(models, {"as it is": before, "filled": filled}).set_index("scan")
    assert table["voxels_changed"].tolist() == [0, before.lesions(0).sum()]
    assert table.loc["as it is", "rank_with_before"] == pytest.approx(1)
    assert table.loc["filled", "rank_with_before"] < 1
    assert table.loc["filled", ["in_lesions", "positive_in_lesions"]].tolist() == [0, 0]
    found = [lrp.explain(model, before.image(0)[None, ..., None], "epsilon", 1e-3) for model in models]
    assert table.loc["as it is", "logit"] == pytest.approx(np.mean([one.logits[0] for one in found]))
    assert table.loc["as it is", "relevance"] == pytest.approx(np.mean([one.relevance.sum() for one in found]), rel=1e-3)
