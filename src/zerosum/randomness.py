"""Random numbers by address: keyed by (seed, purpose, global sample index), never by rank, batch or history.

Sample number i of a purpose gets the same numbers whoever draws it, in whatever batch, before or after a restart; so
one process and N ranks play the same game, and nothing about "where the generator was" has to be saved. The source is
the counter-based generator Philox (Salmon et al. 2011): a key per (seed, purpose), a block of counters per sample.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

WORDS_PER_COUNTER = 4  # one Philox 4x64 counter gives four 64-bit words


@lru_cache(maxsize=256)
def key(seed: int, purpose: str) -> int:
    """A 128-bit Philox key for one purpose of one run."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest(), "little")


def words(seed: int, purpose: str, first: int, count: int, per_sample: int) -> np.ndarray:
    """Raw words (count, per_sample) uint64 for the samples first .. first+count-1."""
    counters = -(-per_sample // WORDS_PER_COUNTER)
    source = np.random.Philox(key=key(seed, purpose), counter=first * counters)
    raw = source.random_raw(count * counters * WORDS_PER_COUNTER)
    return raw.reshape(count, counters * WORDS_PER_COUNTER)[:, :per_sample]


def uniform(seed: int, purpose: str, first: int, count: int, per_sample: int = 1) -> Tensor:
    """Uniform numbers in (0, 1), shape (count, per_sample), float64."""
    raw = words(seed, purpose, first, count, per_sample)
    # 52 bits: a half added to 53 would be rounded, the largest up to 1.
    return torch.from_numpy(((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def normal(seed: int, purpose: str, first: int, count: int, per_sample: int) -> Tensor:
    """Standard normal numbers, shape (count, per_sample), float32, by Box and Muller (1958).

    Each 64-bit word gives one pair: its lower 32 bits the radius, its upper 32 bits the angle. In single precision
    the radius still reaches as far as 32 bits do: what is near 0, where the tail is, keeps its digits.
    """
    pairs = -(-per_sample // 2)
    raw = np.ascontiguousarray(words(seed, purpose, first, count, pairs)).view(np.uint32).reshape(count, pairs, 2)
    unit = raw.astype(np.float32)  # NumPy, in place: twice as quick as the same in torch where the batch is small
    radius, angle = np.ascontiguousarray(unit[..., 0]), np.ascontiguousarray(unit[..., 1])
    radius += 0.5
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2 * math.pi * 2.0**-32
    np.multiply(radius, np.cos(angle), out=unit[..., 0])
    np.multiply(radius, np.sin(angle), out=unit[..., 1])
    return torch.from_numpy(unit.reshape(count, 2 * pairs)[:, :per_sample])


@lru_cache(maxsize=8)
def permutation(seed: int, purpose: str, epoch: int, n: int) -> np.ndarray:
    """The order in which pass number `epoch` visits a set of n items: (n,) int64, each exactly once. Read-only."""
    visits = np.random.Generator(np.random.Philox(key=key(seed, f"{purpose}/{epoch}"))).permutation(n)
    visits.setflags(write=False)  # it is shared by all who ask
    return visits


def order(seed: int, purpose: str, first: int, count: int, n: int) -> np.ndarray:
    """Which items the global samples first .. first+count-1 are, (count,) int64: endless passes without repeats."""
    epoch, start = divmod(first, n)
    if start + count <= n:
        return permutation(seed, purpose, epoch, n)[start : start + count].copy()
    rest = start + count - n
    passes = [permutation(seed, purpose, epoch + 1 + i, n)[: rest - i * n] for i in range(-(-rest // n))]
    return np.concatenate([permutation(seed, purpose, epoch, n)[start:], *passes])


def torch_seed(seed: int, purpose: str, position: int) -> int:
    """A 63-bit seed for torch's own generator (dropout, initial weights), addressed the same way."""
    return key(seed, f"{purpose}/{position}") & ((1 << 63) - 1)
