"""`python -m bench [NAME ...]`: measures what is named, or everything, and prints one JSON line per comparison.

A bench is a module with `add_arguments(parser)`, for options that no other bench has, and `compare(arguments)`, which
gives the lines.
"""

from __future__ import annotations

import argparse
import json

from bench import access, audit, batch, batch_extra, claims, events, real_time, receipts, salesforce, start, year

BENCHES = {
    "batch": batch,
    "batch-extra": batch_extra,
    "real-time": real_time,
    "receipts": receipts,
    "claims": claims,
    "year": year,
    "start": start,
    "events": events,
    "salesforce": salesforce,
    "audit": audit,
    "access": access,
}


def main() -> None:
    """Prints the comparisons asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="One JSON line per comparison.")
    parser.add_argument("what", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all unless named")
    for bench in BENCHES.values():
        bench.add_arguments(parser)
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.what} - {*BENCHES}):
        parser.error(f"there is no bench {unknown[0]}; name some of {', '.join(BENCHES)}")
    for name in arguments.what or BENCHES:
        for line in BENCHES[name].compare(arguments):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
