"""What a whole process costs, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

NOTHING = (sys.executable, "-c", "pass")


@dataclass(frozen=True)
class Cost:
    """Milliseconds: by the clock on the wall, and of the processor."""

    wall: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def costs(commands: Sequence[Sequence[str]], environment: Mapping[str, str], rounds: int) -> list[Cost]:
    """The medians of each command; they take turns, after one round that only warms the caches."""
    # As from an installed package: with its bytecode, which this variable would have made anew each time.
    given = {name: value for name, value in {**os.environ, **environment}.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = [[_once(each, given) for each in commands] for _ in range(rounds + 1)][1:]
    by_command = zip(*taken, strict=True)
    return [Cost(median(each.wall for each in one), median(each.cpu for each in one)) for one in by_command]


def _once(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(1000 * wall, 1000 * (used.ru_utime + used.ru_stime))
