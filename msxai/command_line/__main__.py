"""``python -m msxai.command_line`` does what ``msxai`` does."""

import sys

from msxai.command_line.program import main

sys.exit(main())
