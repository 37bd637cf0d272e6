"""Make or update each notebook's .ipynb from its .py pair: no outputs, no metadata but the pair's and the kernel's.

With --check nothing is written, and pairs that differ are an error.
"""

import sys
from pathlib import Path

import jupytext

different = []
for script in sorted((Path(__file__).parents[1] / "notebooks").glob("*.py")):
    notebook = jupytext.read(script)
    notebook.metadata = {"jupytext": {"formats": "ipynb,py:percent"}, "kernelspec": notebook.metadata["kernelspec"]}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = str(index)  # the same bytes each time, and as nbstripout has them
    text, pair = jupytext.writes(notebook, "ipynb") + "\n", script.with_suffix(".ipynb")
    if not pair.is_file() or pair.read_text(encoding="utf-8") != text:
        different.append(pair.name)
        if "--check" not in sys.argv:
            pair.write_text(text, encoding="utf-8")
            print(f"notebooks/{pair.name}")
if different and "--check" in sys.argv:
    sys.exit(f"not as its .py: {', '.join(different)}. After an edit of the .py: make pairs; of the .ipynb: jupytext --sync it first.")
