"""`python -m zerosum`, and `torchrun -m zerosum`."""

from __future__ import annotations

import os
import sys

from zerosum.cli import main

if __name__ == "__main__":
    status = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A thread that torch's process group leaves now and then aborts a process that is taken down piece by piece.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
