"""``python -m ctxpress.cli``."""

from __future__ import annotations

import sys

from ctxpress.cli import main

if __name__ == "__main__":
    sys.exit(main())
