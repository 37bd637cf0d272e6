"""A simulated Slurm cluster: a toy series runs on it, and a cancelled job is named as such."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import yaml

import msxai

BIN = os.path.dirname(sys.executable)
SCRIPT = msxai.ROOT / "tools" / "slurm_here.sh"
SETTINGS = "workflow/slurm/config.yaml"
SNAKEFILE = """
rule step:
    output:
        "runs/toy/result.txt",
    log:
        "runs/toy/notebooks/step.ipynb",
    shell:
        "while [ -e wait ]; do sleep 0.2; done; echo $SLURM_JOB_ID > {output}"
"""

pytestmark = [
    pytest.mark.long(reason="a simulated cluster starts and runs three jobs, one minute"),
    pytest.mark.skipif(
        shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None,
        reason="no Slurm here (apt-get install slurm-wlm munge)",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a cluster."""
    folder = tmp_path_factory.mktemp("nodes")
    environment = {**os.environ, "SLURM_PORT": "27917"}
    subprocess.run(["sh", SCRIPT, "start", folder], check=True, env=environment)
    yield folder
    subprocess.run(["sh", SCRIPT, "stop", folder], check=True)


@pytest.fixture
def start(cluster, tmp_path):
    """Start the toy series as jobs of the cluster."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    settings = yaml.safe_load((msxai.ROOT / SETTINGS).read_text(encoding="utf-8"))
    settings["slurm-status-command"] = "squeue"
    settings["slurm-init-seconds-before-status-checks"] = 3
    settings["latency-wait"] = 10
    settings["default-resources"] |= {"slurm_partition": "simulated", "mem_mb": 1000}
    (tmp_path / SETTINGS).parent.mkdir(parents=True)
    (tmp_path / SETTINGS).write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, msxai.ROOT / "tools" / "run_alone.py", "runs/toy"]
    command += [f"{BIN}/snakemake", "--workflow-profile", "workflow/slurm"]
    environment = {
        **os.environ,
        "PATH": f"{cluster / 'bin'}:{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }

    def run():
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def running(cluster):
    command = [cluster / "bin" / "squeue", "--noheader", "--states=running", "--format=%A"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def until_running(cluster):
    for _ in range(300):
        if running(cluster):
            return running(cluster)
        time.sleep(0.2)
    pytest.fail("no job ran in a minute")


def test_a_cancelled_job_is_named_and_a_killed_run_leaves_none(cluster, start, tmp_path):
    (tmp_path / "wait").touch()
    run = start()
    (number,) = until_running(cluster)
    subprocess.run([cluster / "bin" / "scancel", number], check=True)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    expected = f"runs/toy/notebooks/step.ipynb: job {number} was cancelled (scancel). The same"
    assert output.rstrip().split("\n")[-1].startswith(expected)
    killed = start()
    (left,) = until_running(cluster)
    killed.kill()
    killed.communicate()
    assert running(cluster) == [left]
    again = start()
    (new,) = until_another(cluster, left)
    (tmp_path / "wait").unlink()
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "runs/toy: cancelled 1 jobs of a run that was killed" in output
    assert (tmp_path / "runs" / "toy" / "result.txt").read_text() == f"{new}\n"


def until_another(cluster, left):
    for _ in range(300):
        numbers = running(cluster)
        if numbers and left not in numbers:
            return numbers
        time.sleep(0.2)
    pytest.fail("no other job ran in a minute")
