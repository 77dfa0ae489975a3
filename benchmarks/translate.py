"""Image to image: rates and memory of training beside the textbook's loops, and translation of a large image.

    python benchmarks/translate.py --algorithms pix2pix --sizes 64 --parts training memory     # one corner of the table
    python benchmarks/translate.py                                                             # all of it: 15 minutes

The same as `zerosum bench translate`; --help lists the options.
"""

import sys

from zerosum.cli import main

sys.exit(main(["bench", "translate", *sys.argv[1:]]))
