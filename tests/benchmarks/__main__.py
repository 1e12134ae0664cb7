"""`python -m tests.benchmarks [--quick] [--rows N] [--only NAME]…`: one table, and the machine it was measured on."""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import (
    appending,
    auditing,
    comparison,
    fleet,
    listing,
    machine,
    postgresql,
    serving,
    serving_api,
    startup,
    table,
    verifying,
)
from tests.benchmarks.scale import FULL, QUICK

# Each takes the scale and a folder of its own.
SUBJECTS = {
    "startup": startup.program,
    "commands": startup.commands,
    "listing": listing.rows,
    "auditing": auditing.rows,
    "appending": appending.rows,
    "postgresql": postgresql.rows,
    "verifying": verifying.rows,
    "scopes": verifying.scoped,
    "first-sight": verifying.first_sight,
    "growing": verifying.growing,
    "fleet": fleet.rows,
    "comparison": comparison.rows,
    "serving": serving.rows,
    "serving-api": serving_api.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: a look, not a result")
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--rows", type=int, metavar="N", help="keys and events; goals hold for a million")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    if options.rows is not None:
        scale = replace(scale, rows=options.rows)
    began = time.monotonic()
    measured: list[table.Row] = []
    with tempfile.TemporaryDirectory(prefix="keyctl-benchmarks-") as folder:
        for name in options.only or SUBJECTS:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            own = Path(folder) / name
            own.mkdir(exist_ok=True)
            os.sync()  # what the one before left to be written would be written in this one's time
            measured += SUBJECTS[name](scale, own)
    print(table.drawn(measured))
    print()
    print("\n".join(machine.described()))
    print(f"{scale.described}; {time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
