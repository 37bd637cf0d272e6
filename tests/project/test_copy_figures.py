"""tools/copy_figures.py: the committed figures are the old ones or the new ones, never none."""

import shutil

import pytest
from support.scripts import script

from msxai.base.errors import WriteError

ENDINGS = (".png", ".tsv")


@pytest.fixture
def tool():
    return script("copy_figures", folder="tools")


@pytest.fixture
def folders(tmp_path):
    source, target = tmp_path / "runs" / "figures", tmp_path / "figures" / "demo"
    for folder in (source / "pairs", target):
        folder.mkdir(parents=True)
    for name in ("fig01.png", "fig01.tsv", "notes.txt", ".lock.png~", "pairs/fig02.png"):
        (source / name).write_text("new")
    (target / "fig00.png").write_text("old")
    return source, target


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_new_figures_take_the_place_of_old_ones(tool, folders):
    source, target = folders
    assert tool.copy(source, target, ENDINGS) == 2
    assert names(target) == ["fig01.png", "fig01.tsv"]
    assert sorted(path.name for path in target.parent.iterdir()) == ["demo"]
    assert tool.copy(source, target) == 5
    assert "pairs/fig02.png" in names(target)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_copy_that_fails_leaves_the_old_ones(tool, folders, monkeypatch, error):
    """The disk is full, or somebody presses Ctrl-C, when one file is copied."""
    source, target = folders
    copied = []

    def copy(one, other, **_):
        assert names(target) == ["fig00.png"], "while the new ones are copied"
        if copied:
            raise error
        copied.append(shutil.copyfile(one, other))

    monkeypatch.setattr(tool.shutil, "copy2", copy)
    tree = shutil.copytree
    monkeypatch.setattr(tool.shutil, "copytree", lambda *a, **k: tree(*a, **k, copy_function=copy))
    with pytest.raises((WriteError, OSError, KeyboardInterrupt)):
        tool.copy(source, target, ENDINGS)
    assert copied
    assert names(target) == ["fig00.png"]
    assert sorted(path.name for path in target.parent.iterdir()) == ["demo"]


def test_where_nothing_was_drawn_the_old_ones_stay(tool, folders, monkeypatch):
    source, target = folders
    with pytest.raises(SystemExit, match="found no file to copy"):
        tool.copy(source, target, (".svg",))
    monkeypatch.setattr(tool.sys, "argv", ["", str(source / "none"), str(target)])
    with pytest.raises(SystemExit, match="found no folder"):
        tool.main()
    assert names(target) == ["fig00.png"]
