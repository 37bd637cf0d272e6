"""What a page lets a browser do: show its own pictures and run its own scripts, nothing else.

A page names its scripts by their digest (Content Security Policy, level 2). Text that came into the
page from elsewhere has no such digest, so a browser does not run it.
"""

import base64
import hashlib
from importlib import resources

from markupsafe import Markup

__all__ = ["policy", "script"]

_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    "style-src 'unsafe-inline'"
)


def script(package: str, name: str) -> Markup:
    """Return a script of a package, for a template to write into the page as it is.

    Parameters
    ----------
    package : str
        Package with a folder ``templates``.
    name : str
        File in that folder.

    Returns
    -------
    markupsafe.Markup
    """
    file = resources.files(package) / "templates" / name
    return Markup(file.read_text(encoding="utf-8"))


def policy(*scripts: str) -> Markup:
    """Return the Content Security Policy of a page.

    Parameters
    ----------
    *scripts : str
        Content of each script that the page may run, as it stands between its tags. None may run
        otherwise, and nothing may be loaded from elsewhere.

    Returns
    -------
    markupsafe.Markup
        For the attribute ``content`` of the page's meta element.

    Examples
    --------
    >>> from msxai.base import page_policy
    >>> str(page_policy.policy("show()")).rpartition("; ")[2][:26]
    "script-src 'sha256-bZcXq6A"
    """
    if not scripts:
        return Markup(_POLICY)
    digests = " ".join(f"'sha256-{_digest(text)}'" for text in scripts)
    return Markup(f"{_POLICY}; script-src {digests}")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
