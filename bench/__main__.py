"""`python -m bench [batch|real-time]`: one JSON line per comparison, ours beside a peer's in the same run."""

from __future__ import annotations

import argparse
import json

from bench import batch, real_time


def main() -> None:
    """Prints the comparisons asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", default=["batch", "real-time"])
    parser.add_argument("--seconds", type=float, default=10, help="of load, per server and number of callers")
    batch.add_arguments(parser)
    asked = parser.parse_args()
    if "batch" in asked.what:
        for line in batch.compare(asked.databases, asked.rows, asked.rounds):
            print(json.dumps(line), flush=True)
    if "real-time" in asked.what:
        for line in real_time.compare(asked.seconds):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
