"""``python -m msxai.command_line`` does what ``msxai`` does."""

import sys

from msxai.command_line.program import main

__all__: list = []

if __name__ == "__main__":
    sys.exit(main())
