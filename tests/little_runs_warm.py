"""What the server of `little_runs` imports: with it, everything that a first step needs is there for all forks."""

from __future__ import annotations

import little_runs

little_runs.warm()
