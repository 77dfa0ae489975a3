"""A trained taste on the disk: DVBPR's weights, and whose they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from zerosum import atomic
from zerosum.applications.recommend import DVBPR, Settings
from zerosum.errors import UserError

WEIGHTS, ABOUT = "taste.safetensors", "taste.json"
FOLDER = Path("tastes")  # that tastes go into where no other is named


class Taste:
    """What the users of a recommender like: `of(user)` is a scorer for `design`, of images (n, C, H, W) in [-1, 1]."""

    def __init__(self, model: DVBPR, users: tuple[str, ...], shape: tuple[int, ...]) -> None:
        self.model, self.users, self.shape = model, users, shape
        model.network.eval().requires_grad_(False)

    def number(self, user: str) -> int:
        if user not in self.users:
            some = ", ".join(self.users[:5])
            raise UserError(f"--for {user}: there is no such user among {len(self.users):,} ({some}, ...)")
        return self.users.index(user)

    def of(self, user: str) -> UserScorer:
        return UserScorer(self.model, self.number(user))


class UserScorer:
    """theta_u . Phi(image), uphill where asked."""

    def __init__(self, model: DVBPR, user: int) -> None:
        self.network, self.taste = model.network, model.taste.weight[user].detach()

    def __call__(self, images: Tensor, /) -> Tensor:
        return self.network(images) @ self.taste


def save(model: DVBPR, users: tuple[str, ...], folder: Path) -> None:
    tensors = {f"network/{k}": v.contiguous() for k, v in model.network.state_dict().items()}
    tensors["taste"] = model.taste.weight.detach().contiguous()
    about = {"users": list(users), "shape": list(model.images.shape[1:]), "factors": model.settings.factors}
    atomic.write_file(folder / WEIGHTS, safetensors.torch.save(tensors))
    atomic.write_file(folder / ABOUT, (json.dumps(about) + "\n").encode())


def newest() -> Path:
    """The folder in FOLDER whose taste was written last. UserError if there is none."""
    found = max(FOLDER.glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        raise UserError(
            f"--taste is missing, and there is none in {FOLDER}/: give a folder that zerosum recommend wrote, or make "
            "one with zerosum recommend ITEMS --interactions TABLE.csv"
        )
    return found.parent


def load(folder: Path) -> Taste:
    """UserError if the folder holds none, or a damaged one."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        users, shape = tuple(about["users"]), tuple(about["shape"])
        model = DVBPR(len(users), np.zeros((1, *shape), dtype=np.uint8), Settings(factors=about["factors"]))
        model.network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network/")})
        with torch.no_grad():
            model.taste.weight.copy_(tensors["taste"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"--taste {folder}: holds no taste; zerosum recommend writes one") from error
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, MemoryError, safetensors.SafetensorError) as error:
        raise UserError(f"--taste {folder}: is damaged ({error}); make it anew with zerosum recommend") from error
    return Taste(model, users, shape)
