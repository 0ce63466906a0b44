"""Face: the processes that carry runs. A supervisor starts workers as fresh interpreters and replaces those that fail.

Refuses to fork: a process that has touched polars hangs in its forked child without a word.
"""

from hub.worker.supervisor import Supervisor

__all__ = ["Supervisor"]
