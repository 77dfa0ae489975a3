"""Where downloaded sets and packed caches live, unless the user says otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(override: str | None = None) -> Path:
    """`override`, or the environment's ZEROSUM_CACHE, or the platform's usual cache folder for this user."""
    if override:
        return Path(override).expanduser()
    if named := os.environ.get("ZEROSUM_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "zerosum"
