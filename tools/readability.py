"""How easily the package reads: length of code lines, size of statements, names that say nothing.

Usage: python tools/readability.py [FOLDER ...]      (default: msxai)

Prints one row a module and the average; exits with 1 where the average breaks a limit or a local
variable has a name of `VAGUE`.
Characters are counted without indentation, on lines that hold code: no blank lines, comments or
docstrings.
Nodes are those of Python's syntax tree (`ast.walk`), divided by the number of statements.
"""

import ast
import io
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

CHARACTERS_A_LINE = 40
NODES_A_STATEMENT = 13
VAGUE = {
    *("found", "one", "each", "told", "said", "known", "kept", "more"),
    *("way", "about", "place", "others"),
}
_LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT),
    *(tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING),
}


@dataclass
class Module:
    """Counts of one file."""

    name: str
    lines: int
    characters: int
    statements: int
    nodes: int
    vague: list


def measure(path: Path) -> Module:
    """Count lines, characters, statements and syntax nodes of a file; list its vague names."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstrings = _docstrings(tree)
    lines = _code_lines(text, docstrings)
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
    nodes = sum(1 for _ in ast.walk(tree))
    return Module(
        name=str(path),
        lines=len(lines),
        characters=sum(len(line.strip()) for line in lines),
        statements=statements,
        nodes=nodes,
        vague=_vague(tree),
    )


def _docstrings(tree) -> set:
    """Return the statements that are docstrings."""
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, scopes) and ast.get_docstring(node) is not None
    }


def _code_lines(text: str, docstrings: set) -> list[str]:
    """Return the lines with a token that is neither comment nor docstring."""
    documented = set()
    for node in docstrings:
        documented |= set(range(node.lineno, node.end_lineno + 1))
    numbers = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _LAYOUT:
            numbers |= set(range(token.start[0], token.end[0] + 1))
    lines = text.splitlines()
    return [lines[number - 1] for number in sorted(numbers - documented)]


def _vague(tree) -> list[str]:
    """Return ``line: name`` for each variable or argument whose name says nothing."""
    vague = []
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        if name in VAGUE:
            vague.append(f"{node.lineno}: {name}")
    return vague


def main(folders: list[str]) -> int:
    """Print the table; return 1 where a limit is broken."""
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    modules = [measure(path) for path in files]
    modules = [module for module in modules if module.statements]
    print("characters  nodes      code  module")
    print("a line      a statement lines")
    for module in modules:
        _print_row(module.name, module)
    total = Module(
        name="average",
        lines=sum(module.lines for module in modules),
        characters=sum(module.characters for module in modules),
        statements=sum(module.statements for module in modules),
        nodes=sum(module.nodes for module in modules),
        vague=[],
    )
    _print_row("average", total)
    vague = [f"{module.name}:{entry}" for module in modules for entry in module.vague]
    for entry in vague:
        print(f"vague name: {entry}")
    too_long = total.characters / total.lines >= CHARACTERS_A_LINE
    too_large = total.nodes / total.statements >= NODES_A_STATEMENT
    return int(too_long or too_large or bool(vague))


def _print_row(name: str, module: Module) -> None:
    characters = module.characters / max(module.lines, 1)
    nodes = module.nodes / max(module.statements, 1)
    print(f"{characters:10.1f}  {nodes:11.1f} {module.lines:5d}  {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["msxai"]))
