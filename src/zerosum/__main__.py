"""`python -m zerosum`, and `torchrun -m zerosum`."""

from __future__ import annotations

import sys

from zerosum.cli import main

if __name__ == "__main__":
    sys.exit(main())
