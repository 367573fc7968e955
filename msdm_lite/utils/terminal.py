"""How commands end: quietly, or with one line on what was wrong and an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable

from msdm_lite.errors import InputError


def guarded(run: Callable[[], object]) -> int:
    """Run a command; its exit code: 0, 2 after one line on bad input, 130 if interrupted, 141 if nobody reads on.

    Warnings of the package go to the terminal meanwhile.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("msdm-lite: %(message)s"))
    log = logging.getLogger("msdm_lite")
    log.addHandler(handler)
    try:
        run()
    except (InputError, FloatingPointError) as problem:
        print(f"msdm-lite: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as problem:  # a file or a disk that will not do
        print(f"msdm-lite: {problem.filename}: {problem.strerror}" if problem.filename else f"msdm-lite: {problem}",
              file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as problem:
        if not (isinstance(problem, MemoryError) or "not enough memory" in str(problem)
                or type(problem).__name__ == "OutOfMemoryError"):  # of torch, which is not loaded for this
            raise
        print("msdm-lite: out of memory: take shorter sounds, fewer at a time or a smaller model", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("msdm-lite: interrupted", file=sys.stderr)
        return 130
    finally:
        log.removeHandler(handler)
    return 0


def ignore_interrupts(*_: object) -> None:
    """For processes that work for another one: Ctrl-C on a terminal reaches all, and only that one answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
