"""Features: what images are compared by. `choose` takes the best at hand and says why; `base` is the contract.

Weak ones (pixels, random convolutions) need nothing; a classifier needs the user's labels and a minute; an ImageNet
network and Inception-2015 need an extra package; anything else comes from the user. Only Frechet distances in
Inception-2015 features are called FID.
"""

from zerosum.metrics.features.base import Extractor
from zerosum.metrics.features.weak import cheap

__all__ = ["Extractor", "cheap"]
