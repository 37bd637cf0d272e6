"""Make or update each notebook's .ipynb from its .py pair: no outputs, no metadata but the pair's
and the kernel's.

With --check nothing is written, and pairs that differ are an error.
"""

import sys
from pathlib import Path

import jupytext


def cells(notebook):
    """What counts in a pair; JupyterLab's ids, counts and language_info do not."""
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


different = []
for script in sorted((Path(__file__).parents[1] / "notebooks").glob("*.py")):
    notebook, pair = jupytext.read(script), script.with_suffix(".ipynb")
    if pair.is_file() and cells(jupytext.read(pair)) == cells(notebook):
        continue
    different.append(pair.name)
    if "--check" not in sys.argv:
        notebook.metadata = {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": notebook.metadata["kernelspec"],
        }
        for index, cell in enumerate(notebook.cells):
            cell["id"] = str(index)  # the same bytes each time, and as nbstripout has them
        jupytext.write(notebook, pair)
        print(f"notebooks/{pair.name}")
if different and "--check" in sys.argv:
    sys.exit(
        f"{', '.join(different)}: found cells that differ from the .py. "
        "After an edit of the .py: make pairs. After an edit of the .ipynb: jupytext --sync it."
    )
