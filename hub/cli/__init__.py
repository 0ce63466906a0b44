"""Face: `hub <room> <verb>`. Translates arguments to calls of the rooms and their answers to text or JSON.

Exit codes: 0 done, 1 refused or failed (one sentence on standard error says why), 2 the command line is wrong,
3 the run ended and is not green.
"""

from hub.cli.main import main

__all__ = ["main"]
