"""Runs of a notebook by the command `msxai`: what of it a user reads."""

import nbformat
import pytest
from nbformat import v4

from msxai.base.errors import ParameterError
from msxai.command_line import notebook_runs

MESSAGES = """
from ipykernel.kernelapp import IPKernelApp
from msxai.base import progress

log = IPKernelApp.instance().log
log.warning("Kernel is running over TCP without encryption.")
log.error("KeyboardInterrupt caught in kernel.")
print(progress.PROGRESS + "1 of 2 scans")
"""


def test_only_progress_is_printed(tmp_path, monkeypatch, capfd):
    """A kernel that is stopped after its last cell reports this as an error, at times."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    cells = [v4.new_code_cell("", metadata={"tags": ["parameters"]}), v4.new_code_cell(MESSAGES)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, notebooks / "10_odd.ipynb")
    monkeypatch.setattr(notebook_runs.resources, "files", lambda package: tmp_path)
    notebook_runs.run("10_odd", {}, tmp_path / "results")
    assert (tmp_path / "results" / "10_odd.ipynb").exists()
    lines = capfd.readouterr().err.splitlines()
    assert "msxai: 1 of 2 scans" in lines
    assert not [line for line in lines if "Kernel" in line or "kernel" in line]


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        "[]",
        "{}",
        '{"metadata": "papermill"}',
        '{"metadata": ["papermill"]}',
        '{"metadata": null}',
        "{",
    ],
    ids=["brackets", "list", "nothing", "text", "names", "null", "half"],
)
def test_a_notebook_that_no_command_has_run_is_not_replaced(tmp_path, content):
    path = tmp_path / "10_one_scan.ipynb"
    path.write_text(content)
    with pytest.raises(ParameterError, match="found a notebook that was not executed by this"):
        notebook_runs._check_executed(path)
    path.write_text('{"metadata": {"papermill": {}}}')
    notebook_runs._check_executed(path)
