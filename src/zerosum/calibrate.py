"""How fast the processor is, in two numbers that every timing is read beside."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 1.0


def calibrate(seconds: float = SECONDS) -> dict[str, float]:
    """The processor's speed in fp32, in 10^9 operations a second: the median of what fits into `seconds`.

    A matrix product 512 x 512 x 512, and a 3x3 convolution of 16 images of 64 channels, 16 x 16; with as many threads
    as torch is set to.
    """
    import torch  # slow to import, and `doctor` must be able to say that it is broken
    from torch.nn import functional

    a, b = torch.ones(512, 512), torch.ones(512, 512)
    x, w = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)
    with torch.no_grad():
        return {
            "matrix_gflops": rate(lambda: a @ b, 2 * 512**3, seconds / 2),
            "convolution_gflops": rate(
                lambda: functional.conv2d(x, w, padding=1), 2 * 16 * 64 * 64 * 9 * 256, seconds / 2
            ),
        }


def rate(work: Callable[[], object], operations: int, seconds: float) -> float:
    work()  # the first call sets things up
    times: list[float] = []
    while sum(times) < seconds:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return operations / sorted(times)[len(times) // 2] / 1e9
