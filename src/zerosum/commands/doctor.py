"""`zerosum doctor`."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import ClassVar

from zerosum.commands.base import Command
from zerosum.parsing import colour_wanted

MARKS = {"good": ("ok", "32"), "note": ("note", "33"), "bad": ("BAD", "31")}


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Say what this machine can do, and what is missing."""

    examples: ClassVar[tuple[str, ...]] = ("zerosum doctor", "zerosum doctor --json")

    json: bool = False
    """Print JSON instead of lines."""

    def run(self) -> int:
        from zerosum import doctor

        findings = doctor.examine()
        usable = all(finding.state != "bad" for finding in findings)
        if self.json:
            print(json.dumps({"usable": usable, "findings": [dataclasses.asdict(f) for f in findings]}, indent=1))
        else:
            width = max(len(finding.name) for finding in findings)
            for finding in findings:
                mark, colour = MARKS[finding.state]
                mark = f"\x1b[{colour}m{mark:<4}\x1b[0m" if colour_wanted(sys.stdout) else f"{mark:<4}"
                print(f"{mark}  {finding.name:<{width}}  {finding.value}")
                if finding.remedy:
                    print(f"{'':<{width + 8}}-> {finding.remedy}")
            print("ready" if usable else "zerosum cannot train here yet: see the lines marked BAD")
        return 0 if usable else 1
