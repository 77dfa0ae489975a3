"""What torchrun starts in `test_torchrun`: torchrun ... torchrun_worker.py FOLDER DELAY_SECONDS NAME...

Each name is an algorithm; its run is started in FOLDER/NAME by the same call that a single process makes. The last
one is slow, by that delay for each batch of real images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import little_runs
from zerosum import distributed

if __name__ == "__main__":
    folder, delay, names = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    little_runs.quick_sessions()
    joined = len(names) > 1 and distributed.start(torch.device("cpu"))  # else each session joins and leaves
    for name in names:
        slow = delay if name == names[-1] else 0.0
        little_runs.train(little_runs.uncoupled(name), folder / name, delay_seconds=slow)
    if joined:
        distributed.stop()
