"""How good a GAN is after a few minutes of this machine, our default beside three opponents.

    python benchmarks/speedrun.py --minutes 5 --arms default     # the default recipe alone, some 6 minutes a seed
    python benchmarks/speedrun.py                                # everything: hours, in as many sittings as you like

The same as `zerosum bench speedrun`; --help lists the options.
"""

import sys

from zerosum.cli import main

sys.exit(main(["bench", "speedrun", *sys.argv[1:]]))
