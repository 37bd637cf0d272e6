"""The recipes of containers: built where Docker runs, else read."""

import re
import shutil
import subprocess

import pytest

from msxai import ROOT

FOLDER = ROOT / "tools" / "containers"
RECIPES = [FOLDER / "Dockerfile", FOLDER / "msxai.def"]


def code(path):
    """A recipe without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def has_image_of_python():
    """Whether Docker runs here, and has the image that the recipe starts from."""
    if shutil.which("docker") is None:
        return False
    name = re.search(r"(?m)^FROM (\S+)$", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))[1]
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_installs_what_the_lock_says_and_nothing_else(path):
    text = code(path)
    assert text.count("sh tools/setup.sh") == 1
    assert (ROOT / "tools" / "setup.sh").is_file()
    assert not re.search(r"\bpip\b|\bcurl\b|\bwget\b|https?:", text)
    (version,) = re.findall(r"(?i)^from:? python:3\.(\d+)-", text, re.MULTILINE)
    assert 11 <= int(version) <= 13


def test_both_recipes_start_from_one_image():
    images = {
        re.search(r"(?im)^from:? (\S+)$", path.read_text(encoding="utf-8"))[1] for path in RECIPES
    }
    assert len(images) == 1


def test_no_data_and_no_environment_get_into_an_image():
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {".venv", "runs", "data/*", "!data/README.md"} <= set(left_out)
    text = code(FOLDER / "msxai.def")
    assert "rm -rf .venv runs site .snakemake" in text
    assert "find data -mindepth 1 -not -name README.md -delete" in text
    assert text.index("find data") < text.index("sh tools/setup.sh")


def test_the_cleaning_of_the_recipe_leaves_the_readme_alone(tmp_path):
    (tmp_path / "data" / "study" / "sub-01").mkdir(parents=True)
    (tmp_path / "data" / "study" / "sub-01" / "scan.nii").touch()
    (tmp_path / "data" / "README.md").touch()
    (line,) = re.findall(r"find data .*-delete", code(FOLDER / "msxai.def"))
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    names = [path.name for path in (tmp_path / "data").rglob("*")]
    assert names == ["README.md"]


@pytest.mark.long(reason="an image is built, minutes; skipped where Docker does not run")
@pytest.mark.skipif(
    not has_image_of_python(), reason="Docker does not run here, or lacks the image of Python"
)
def test_the_image_is_built_and_explains_itself():
    recipe = FOLDER / "Dockerfile"
    subprocess.run(["docker", "build", "--file", recipe, "--tag", "msxai-test", ROOT], check=True)
    command = ["docker", "run", "--rm", "--user", "1234", "msxai-test", "make", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "make figures" in done.stdout
