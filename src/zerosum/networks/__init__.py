"""Pairs of networks: frozen descriptions that build a generator and a critic for a data shape."""

from zerosum.networks.beside import Beside
from zerosum.networks.blocks import Networks, coupled, stateful, track
from zerosum.networks.dcgan import DCGAN
from zerosum.networks.fastgan import FastGAN
from zerosum.networks.growing import Growing
from zerosum.networks.heads import Auxiliary, ClassesOrFake
from zerosum.networks.mlp import MLP
from zerosum.networks.patch import Patch
from zerosum.networks.progressive import Progressive
from zerosum.networks.r3 import R3
from zerosum.networks.resblocks import ResBlocks
from zerosum.networks.resnet import ResNet
from zerosum.networks.sndcgan import SNDCGAN
from zerosum.networks.subpixel import Subpixel
from zerosum.networks.translators import Translators
from zerosum.networks.unet import UNet

__all__ = [
    "DCGAN", "MLP", "R3", "SNDCGAN", "Auxiliary", "Beside", "ClassesOrFake", "FastGAN", "Growing", "Networks", "Patch",
    "Progressive", "ResBlocks", "ResNet", "Subpixel", "Translators", "UNet", "coupled", "stateful", "track",
]  # fmt: skip
