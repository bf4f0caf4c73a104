"""A process whose wall clock a test sets: python -m tests.builders.jumping_clock FILE MODULE [ARGUMENT ...]

FILE has the seconds between this clock and the real one; it may change at any time. The clock that is
never set, `time.monotonic`, stays as it is.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def set_clock(file: Path, seconds: float) -> None:
    """Set the clock to so many seconds from the real one, at once."""
    part = file.with_suffix(".part")
    part.write_text(repr(seconds))
    part.replace(file)


def main() -> None:
    """Put the clock in place of the real one, before anything else is imported, and run the program."""
    file, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    real = time.time
    time.time = lambda: real() + float(file.read_text())
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
