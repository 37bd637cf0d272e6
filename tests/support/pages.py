"""Scripts put into a copy of a page: one that its policy allows, and ones that it does not."""

import re

from msxai.base import page_policy

RUN = 'document.title = "broken in"'
INTRUDERS = f"<script>{RUN}</script><img src=x onerror='{RUN}'>"


def with_script(text: str, script: str) -> str:
    """Return a page that also runs a script at its end."""
    digest = re.search(r"'sha256-[^']*'", page_policy.policy(script))[0]
    allowed = text.replace("script-src ", f"script-src {digest} ", 1)
    assert allowed != text
    return allowed.replace("</body>", f"<script>{script}</script></body>")


def with_intruders(page, folder):
    """Write a copy of a page into which scripts came from elsewhere; return its path."""
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    path = folder / "intruded.html"
    path.write_text(text.replace("</body>", f"{INTRUDERS}</body>"), encoding="utf-8")
    return path
