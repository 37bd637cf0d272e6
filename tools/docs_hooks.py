"""Lets pages of docs/ show files of the repository outside docs/, such as figures and tables.

A page links them as on GitHub, `../figures/demo/fig01_cohort.png`. MkDocs serves docs/ only, so
these hooks add each linked file to the site and point the link there. MkDocs calls the functions.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?P<target>(?:\.\./)+[^)#\s]+)")


def _repository_path(page: str, target: str) -> str | None:
    """Return the file that a link names, from the checkout on; None unless outside docs/."""
    folder = posixpath.dirname(f"docs/{page}")
    path = posixpath.normpath(posixpath.join(folder, target))
    is_outside = not path.startswith(("docs/", "../"))
    is_page = path.endswith(".md")
    return path if is_outside and not is_page and (ROOT / path).is_file() else None


def on_files(files, config):
    """Add the linked files to the site."""
    paths = set()
    for page in files.documentation_pages():
        text = Path(page.abs_src_path).read_text(encoding="utf-8")
        for match in LINK.finditer(text):
            paths.add(_repository_path(page.src_uri, match["target"]))
    for path in sorted(paths - {None}):
        added = File(path, str(ROOT), config.site_dir, use_directory_urls=False)
        files.append(added)
    return files


def on_page_markdown(markdown, page, config, files):
    """Point the links at the added files."""
    depth = page.file.src_uri.count("/")

    def inside(match):
        path = _repository_path(page.file.src_uri, match["target"])
        return match[0] if path is None else f"]({'../' * depth}{path}"

    return LINK.sub(inside, markdown)
