"""What the server of `little_runs` imports: with it, everything that a first step needs is there for all forks."""

from __future__ import annotations

import traceback

import little_runs

try:
    little_runs.warm()
except Exception:  # the tests will fail of it one by one, and say so better than a server that ends
    traceback.print_exc()
