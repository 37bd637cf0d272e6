"""README and docs: links, commands, parameters, paths, snippets and numbers are true."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown.extensions.toc import slugify
from support.scripts import script

import msxai

ROOT = Path(msxai.ROOT)
BIN = Path(sys.executable).parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *PAGES]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?)#* *$", re.MULTILINE)
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FOLDERS = (
    "msxai",
    "tools",
    "workflow",
    "docs",
    "tests",
    "benchmarks",
    "figures",
    "notebooks",
    ".ci",
)
COMMAND = re.compile(
    r"^(?:[A-Z_]+=\S+ )*(make|conda|python|apt-get|ls|\.venv/bin/\S+|papermill|msxai)( |$)"
)
EXECUTED = ("README.md", "docs/results-folder.md", "docs/lrp.md", "docs/lesion-filling.md")
"""Texts whose Python snippets run here, on a tiny cohort and a tiny network."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def prose(text):
    """The text without its blocks of code."""
    return FENCE.sub("", text)


def anchors(path):
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    text = prose(path.read_text(encoding="utf-8"))
    plain = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in HEADING.findall(text)]
    return {slugify(heading, "-") for heading in plain}


@dataclass
class Block:
    """A block of code of a text."""

    page: str
    language: str
    text: str


def blocks(path):
    text = path.read_text(encoding="utf-8")
    return [
        Block(name_of(path), match["language"], match["text"]) for match in FENCE.finditer(text)
    ]


def commands(path):
    """Every command of a text: lines of its blocks, and code in its sentences."""
    lines = []
    for block in blocks(path):
        if block.language in ("", "sh", "bash", "console", "shell"):
            joined = block.text.replace("\\\n", " ")
            lines += [line.removeprefix("$ ").strip() for line in joined.splitlines()]
    inline = CODE.findall(prose(path.read_text(encoding="utf-8")))
    return [line for line in [*lines, *inline] if COMMAND.match(line)]


def words_of(command):
    """The words of each part of a command line, without comments."""
    parts = re.split(r" && | \|\| |; ", command)
    return [shlex.split(part, comments=True) for part in parts]


def makefile():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    taken = " ".join(re.findall(r"^TAKEN \+?:?= (.*)$", text, re.MULTILINE)).split()
    return targets, {*taken, "FSLDIR"}


def notebook_parameters(notebook):
    """Names in the cell tagged `parameters` of a notebook's script."""
    script = ROOT / Path(notebook).with_suffix(".py")
    text = script.read_text(encoding="utf-8")
    cell = text.split('# %% tags=["parameters"]')[1].split("# %%")[0]
    return {node.target.id for node in ast.parse(cell).body if isinstance(node, ast.AnnAssign)}


def test_the_times_of_proofs_are_those_of_their_scripts():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    timed = re.findall(
        r"^proof-.*about (\d+ minutes).*\n\t.*(benchmarks/\w+\.py)", text, re.MULTILINE
    )
    assert len(timed) >= 5
    for minutes, path in timed:
        docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        assert minutes in docstring.replace("\n", " "), path


def test_readme_is_short():
    """At most 130 lines; the first 30 show what it is, one picture and two commands."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    first_screen = "\n".join(lines[:30])
    assert "docs/pictures/patient.png" in first_screen
    assert "make figures" in first_screen


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path):
    for match in LINK.finditer(prose(path.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        goal = (path.parent / target).resolve() if target else path
        assert goal.exists(), f"{name_of(path)} links {match['target']}, which does not exist"
        if anchor and goal.suffix == ".md" and "reference" not in goal.parts:
            assert anchor in anchors(goal), f"{name_of(path)}: no heading #{anchor} in {target}"


def test_each_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Reads mkdocs.yml, whatever tags it has."""

    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def pages(item):
        if isinstance(item, str):
            return [item]
        children = item.values() if isinstance(item, dict) else item
        return [page for child in children for page in pages(child)]

    assert sorted(pages(settings["nav"])) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in PAGES
    )


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_are_of_the_makefile(path):
    """Targets and variables of `make` exist; so do the tools of .venv."""
    targets, variables = makefile()
    for command in commands(path):
        for words in words_of(command):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if not words:
                continue
            if words[0].startswith(".venv/bin/"):
                assert (BIN / Path(words[0]).name).exists(), f"{name_of(path)}: {command}"
            if words[0] != "make":
                continue
            for word in words[1:]:
                variable, equals, _ = word.partition("=")
                if equals:
                    assert variable in variables, f"{name_of(path)}: {command}"
                elif not word.endswith("..."):
                    assert word in targets, f"{name_of(path)}: {command}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_papermill_parameters_are_in_the_notebook(path):
    for command in commands(path):
        if "papermill notebooks/" not in command:
            continue
        words = shlex.split(command, comments=True)
        notebook = next(word for word in words if word.startswith("notebooks/"))
        given = {words[index + 1] for index, word in enumerate(words) if word == "-p"}
        for index, word in enumerate(words):
            if word == "-y":
                given |= set(yaml.safe_load(words[index + 1]))
        assert given <= notebook_parameters(notebook), f"{name_of(path)}: {command}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_of_the_package_can_be_parsed(path):
    """Each full command line of `msxai` is parsed by the program itself."""
    from msxai.command_line import program

    for command in commands(path):
        words = shlex.split(command, comments=True)
        if words[0] != "msxai" or len(words) < 2:
            continue
        assert words[1] in program.COMMANDS, f"{name_of(path)}: {command}"
        if len(words) > 2:
            assert program.parser().parse_args(words[1:]).command == words[1]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_paths_exist(path):
    """Files of the repository that a sentence names as code."""
    for code in CODE.findall(prose(path.read_text(encoding="utf-8"))):
        for word in code.split():
            is_path = word.startswith(tuple(f"{folder}/" for folder in FOLDERS))
            if not is_path or re.search(r"[<>*$]|NN|NAME|\.\.\.|::", word):
                continue
            assert (ROOT / word).exists(), f"{name_of(path)} names {word}, which does not exist"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_snippets_can_be_parsed(path):
    """Python compiles and what it imports exists; YAML loads."""
    for block in blocks(path):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "msxai":
                    for imported in node.names:
                        resolve(f"{node.module}.{imported.name}")
        if block.language == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_names_of_the_package_exist(path):
    """What a sentence names as `msxai.x.y` can be imported."""
    for code in CODE.findall(prose(path.read_text(encoding="utf-8"))):
        if re.fullmatch(r"msxai(\.\w+)+", code):
            resolve(code)


def resolve(dotted):
    """Import a module, or what stands in it."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        parent, _, name = dotted.rpartition(".")
        return getattr(resolve(parent), name)


@pytest.fixture(scope="module")
def tiny_results(tmp_path_factory, one_thread):
    """A results folder with a prepared cohort of four simulated subjects and a narrow network."""
    from msxai.data import images, prepared
    from msxai.data.cohorts.cohort import open_cohort
    from msxai.data.synthetic import phantom
    from msxai.model import network

    folder = tmp_path_factory.mktemp("docs")
    results = msxai.Results(str(folder / "runs" / "demo"))
    phantom.write_cohort("ms", folder / "phantom-ms", 4, 3)
    cohort = open_cohort(str(folder / "phantom-ms"))
    split = cohort.table[["participant_id", "session_id"]].assign(part="training")
    prepared.prepare(cohort, split, results.prepared("phantom-ms"))
    for variant in ("pretrained", "scratch"):
        weights = results.trial(variant, 0) / "weights.npz"
        weights.parent.mkdir(parents=True)
        network.save_weights(network.build(2, images.SHAPE), weights)
    return folder


@pytest.mark.parametrize("name", EXECUTED)
def test_snippets_run(name, tiny_results):
    """The Python of a page, from its first block to its last, on the tiny cohort."""
    path = ROOT / name
    snippets = [block.text for block in blocks(path) if block.language == "python"]
    namespace = {}
    for snippet in snippets:
        here = snippet.replace('"runs/demo', f'"{tiny_results}/runs/demo')
        here = here.replace("copies=8", "copies=2")  # a quarter of the time
        exec(compile(here, name, "exec"), namespace)
    if name == "README.md":
        result = namespace["result"]
        assert result.relevance.shape == namespace["scan"].shape
        assert len(result.logits) == 1
        assert len(result.audit)


def test_numbers_are_those_of_the_committed_tables():
    """docs/measured.md and the rows of README are written from the tables."""
    measured = script("measured", "tools")
    assert measured.PAGE.read_text(encoding="utf-8") == measured.page()
    readme = measured.README.read_text(encoding="utf-8")
    assert readme == measured.readme(readme)


def test_readme_has_no_other_results():
    """Five rows of simulated subjects, two of people; other decimals are shares of a holdout."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, rest = readme.split("<!-- headline: written by tools/measured.py -->")
    rows, after = rest.split("<!-- end of headline -->")
    assert len(rows.strip().splitlines()) == 2 + 5 + 2
    outside = readme.replace(rows, "").replace("HOLDOUT=0.2,0.2", "")
    assert not re.findall(r"(?<![\w.])-?0?\.\d+\b", outside)
    assert after.strip()


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_decimals_have_a_leading_zero(path):
    text = CODE.sub("", LINK.sub("", prose(path.read_text(encoding="utf-8"))))
    assert not re.findall(r"(?<![\w.\]\)])\.\d\d?\b", text)


def test_a_cell_of_the_measured_page_holds_one_number():
    text = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("|"):
            for cell in line.strip("|").split("|"):
                assert ";" not in cell, line
                decimals = re.findall(r"\d\.\d+", cell)
                assert len(decimals) <= 2, line
                assert len(decimals) < 2 or re.search("[a-z]", cell), line


def test_each_proof_says_how_many_commits_have_changed_its_code(capsys):
    measured = script("measured", "tools")
    measured.print_ages()
    printed = capsys.readouterr().out
    paths = [
        *(ROOT / "benchmarks").glob("*.json"),
        *(ROOT / "figures").rglob("provenance.json"),
    ]
    assert len(paths) == len(printed.splitlines())
    for path in paths:
        age = r"made \S+; (\d+|unknown number of) commits of code since"
        assert re.search(rf"{name_of(path)}: {age}", printed)


def test_the_folders_of_results_are_on_their_page():
    """Each folder that `Results` knows stands in the tree of docs/results-folder.md."""
    page = (ROOT / "docs" / "results-folder.md").read_text(encoding="utf-8")
    results = msxai.Results("runs/demo")
    paths = [
        *(results.prepared("c"), results.prepared("c", "noise"), results.split("c")),
        *(results.registration("c"), results.quality_control("c"), results.evaluation()),
        *(results.trial("pretraining", 0), results.trial("scratch", 0), results.figures()),
        *(results.heatmaps("v"), results.regions("v"), results.quality("v"), results.states("v")),
    ]
    tree = FENCE.search(page)["text"]
    for path in paths:
        folder = path.relative_to(results.folder).parts[0]
        assert f"\n  {folder}/" in tree, folder


def test_the_glossary_is_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = [entry.lower() for entry in re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE)]
    assert entries == sorted(entries)


@pytest.mark.long(reason="the whole manual, 17 s; links are checked in make test")
def test_the_manual_is_built_without_a_warning_and_asks_nobody(tmp_path):
    """Strict: a broken link stops it. No style, script or picture comes from another place."""
    result = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(BIN), "NO_MKDOCS_2_WARNING": "1", "HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?:)?//[^>]*>")
    for page in sorted((tmp_path / "site").rglob("*.html")):
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name
