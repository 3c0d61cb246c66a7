"""``python -m skood``: the command line."""

from __future__ import annotations

import sys

from skood.cli import main

if __name__ == "__main__":
    sys.exit(main())
