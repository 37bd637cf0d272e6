"""The last lines of a run that failed say why, and what to do."""

import os
from pathlib import Path

import pytest
from support.scripts import script

end_message = script("end_message", "tools")


# As Snakemake 9 and its executor of Slurm 2.6 write it.
BLOCK = """[Sat Nov 28 10:04:07 2026]
Error in rule RULE:
    message: SLURM-job 'NUMBER' failed, SLURM status is: 'STATE'. Detailed
    jobid: 3
    input: notebooks/03_fine_tuning.py, msxai/base/errors.py
    output: runs/toy/provenance.json
    log: runs/toy/notebooks/RULE.ipynb, OWN_LOG (check log file(s) for error details)
    shell:
        papermill
    external_jobid: NUMBER
"""
CLOCK = (
    "WorkflowError in rule b in file Snakefile, line 6:\n"
    "Output runs/toy/b.json has older modification time (2026-11-28 09:44:40.035474) than input "
    "data/my study/participants.tsv (2026-11-28 11:44:32.923365). This could indicate a clock skew "
    "problem in your network\n"
)


def block(rule, number, state, own_log="none.log"):
    text = BLOCK.replace("RULE", rule).replace("NUMBER", number).replace("STATE", state)
    return text.replace("OWN_LOG", str(own_log))


@pytest.fixture
def say(tmp_path, monkeypatch):
    """The sentences after a run with this log and these messages of notebooks."""
    monkeypatch.chdir(tmp_path)
    results = Path("runs/toy")

    def sentences(log="", **messages):
        for folder in (".snakemake/log", results / "notebooks"):
            os.makedirs(folder, exist_ok=True)
        (tmp_path / ".snakemake/log/now.snakemake.log").write_text(log, encoding="utf-8")
        for name, text in messages.items():
            path = results / "notebooks" / f"{name}.ipynb.messages"
            path.write_text(text, encoding="utf-8")
        return end_message.sentences(results, since=0)

    return sentences


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            "CANCELLED",
            "job 17 was cancelled (scancel). The same command submits it again.",
        ),
        (
            "TIMEOUT",
            "job 17 ran past its time. Give its rule more runtime (minutes) under set-resources in "
            "workflow/slurm/config.yaml, then give the same command again.",
        ),
        (
            "OUT_OF_MEMORY",
            "job 17 needed more memory than it had asked for. Give its rule more mem_mb under "
            "set-resources in workflow/slurm/config.yaml, then give the same command again.",
        ),
    ],
)
def test_how_a_job_of_a_cluster_ended(say, state, expected):
    """Its notebook's own last line would mislead: it was cut off anywhere."""
    log = block("finetune", "17", state)
    assert say(log, finetune="Executing") == [f"runs/toy/notebooks/finetune.ipynb: {expected}"]


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd-node1: error: Exceeded job memory limit",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=17.0.",
    ],
)
def test_a_job_whose_own_log_speaks_of_memory(say, tmp_path, line):
    """Slurm calls a job FAILED where a process of it was killed for its memory."""
    own_log = tmp_path / "17.log"
    own_log.write_text(f"Building DAG of jobs...\n{line}\n", encoding="utf-8")
    (sentence,) = say(block("finetune", "17", "FAILED", own_log))
    assert "job 17 needed more memory than it had asked for" in sentence


def test_several_jobs_each_with_its_own_reason(say):
    log = block("finetune", "17", "TIMEOUT") + block("judge", "18", "CANCELLED")
    log += block("explain", "19", "FAILED")
    sentences = say(log, explain="Traceback\nMissingStepError: runs/a: found nothing\n")
    assert len(sentences) == 3
    assert "finetune.ipynb: job 17 ran past its time" in sentences[0]
    assert "judge.ipynb: job 18 was cancelled" in sentences[1]
    expected = "runs/toy/notebooks/explain.ipynb: MissingStepError: runs/a: found nothing"
    assert sentences[2] == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("Traceback\nWriteError: a.h5: found a full disk\n\n", "WriteError: a.h5: found a full"),
        ("OSError: [Errno 28] No space left on device\n", "the disk was full. Free space on it"),
        ("nbclient.exceptions.DeadKernelError: Kernel died", "its kernel was killed. Was the"),
        ("", "ended without a word. The same command makes it again."),
    ],
)
def test_why_a_notebook_failed(say, messages, expected):
    (sentence,) = say(finetune=messages)
    assert sentence.startswith(f"runs/toy/notebooks/finetune.ipynb: {expected}")


def test_messages_of_an_earlier_run_are_left_out(say, tmp_path):
    say(block("finetune", "17", "TIMEOUT"), finetune="MissingStepError: nothing")
    sentences = end_message.sentences(Path("runs/toy"), since=2_000_000_000_000)
    assert sentences == [
        "runs/toy: the run has stopped. The same command goes on where it stopped."
    ]


def test_a_table_from_the_future(say):
    (sentence,) = say(CLOCK)
    assert sentence.startswith("data/my study/participants.tsv: found a time that lies after the")
    assert "touch data/my study/participants.tsv" not in sentence
    assert "touch 'data/my study/participants.tsv'" in sentence
