"""Make or update each notebook's .ipynb from its .py pair: no outputs, no metadata but the kernel's."""

from pathlib import Path

import jupytext

for script in sorted((Path(__file__).parents[1] / "notebooks").glob("*.py")):
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = str(index)  # the same bytes each time, and as nbstripout has them
    jupytext.write(notebook, script.with_suffix(".ipynb"))
    print(f"notebooks/{script.stem}.ipynb")
