"""Data: from a name, a folder, a file or an array to a `Dataset` of uint8 images (or points) of one shape, or two.

The way of an image: `listing` finds files, `picture` decodes and resizes one, `files` and `arrays` bring a
whole set to one shape, `pack` keeps it in memory or in a packed cache, `loader` draws batches and is the only
place that scales. Nothing here imports torch but `loader`.
"""

from zerosum.data.arrays import from_arrays, from_torch
from zerosum.data.report import Report, check
from zerosum.data.sets import named
from zerosum.data.sides import Sides, as_meant, open_sides, read, two_sided
from zerosum.data.sides_report import SidesReport, check_sides
from zerosum.data.source import open_source as open
from zerosum.data.spec import Data, Dataset, Spec
from zerosum.data.store import ArrayDataset

__all__ = [
    "ArrayDataset",
    "Data",
    "Dataset",
    "Report",
    "Sides",
    "SidesReport",
    "Spec",
    "as_meant",
    "check",
    "check_sides",
    "from_arrays",
    "from_torch",
    "named",
    "open",
    "open_sides",
    "read",
    "two_sided",
]
