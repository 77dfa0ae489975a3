"""Recipes: functions that return a complete `Run`, each with its measured result, and `pick`, which chooses one.

A recipe's docstring says what it reached and where; `benchmarks/` measures it again.
"""

from zerosum.recipes.images import digits, fashion_mnist, fashion_mnist_dcgan, fashion_mnist_r3gan
from zerosum.recipes.pick import Choice, estimate, pick, probe_interval, quickest
from zerosum.recipes.toys import ring

ALL = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "fashion-mnist-dcgan": fashion_mnist_dcgan,
    "fashion-mnist-r3gan": fashion_mnist_r3gan,
    "ring": ring,
}

__all__ = [
    "ALL", "Choice", "digits", "estimate", "fashion_mnist", "fashion_mnist_dcgan", "fashion_mnist_r3gan", "pick",
    "probe_interval", "quickest", "ring",
]  # fmt: skip
