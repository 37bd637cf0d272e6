"""Where the real scans are."""

from pathlib import Path

import msxai

SHARED = Path(msxai.ROOT).parent / "shared"
