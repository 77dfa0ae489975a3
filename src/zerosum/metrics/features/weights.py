"""Published weights: fetched only when asked, and used only if their SHA-256 is the known one."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from zerosum import atomic
from zerosum.data.cache import cache_folder
from zerosum.errors import UserError
from zerosum.metrics.features.base import Told


@dataclass(frozen=True)
class Weights:
    """A file of weights. `sha256` may be its beginning, where the publisher gives no more."""

    name: str
    url: str
    sha256: str
    bytes: int

    def path(self) -> Path:
        """Where they are looked for, and where a download puts them."""
        return cache_folder() / "weights" / self.url.rsplit("/", 1)[-1]

    def right(self, found: str) -> bool:
        return found.startswith(self.sha256)

    def download(self, told: Told | None = None) -> Path:
        """Fetch them, unless they are there. UserError if that fails or gives another file."""
        path = self.path()
        if path.is_file():
            return path
        data = bytearray()
        try:
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                while block := answer.read(1 << 20):
                    data += block
                    if told:
                        told(len(data), self.bytes)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--download: the {self.name} weights could not be fetched ({error}); check the network, or fetch "
                f"{self.url} elsewhere and put it at {path}"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if not self.right(found):
            raise UserError(
                f"--download: {self.url} gave a file with SHA-256 {found}, not {self.sha256}: nothing was kept; try "
                "again"
            )
        atomic.write_file(path, bytes(data))
        return path
