"""The end of a command: its exit code, and errors as one line without a traceback."""

import io
import logging
import os
import signal
import sys
from collections.abc import Callable

from msdm_lite.errors import InputError, shown


class _Printable(logging.Formatter):
    """Names of files may be any bytes; a terminal shows text."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def guarded(run: Callable[[], object]) -> int:
    """Run a command and return its exit code.

    The code is what `run` returns, 0 if that is no number, 2 after one line on bad input, 130 if interrupted, or 141 if
    the reader of the output has closed it.
    While the command runs, warnings of the package go to the terminal.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("msdm-lite: %(message)s"))
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be any bytes
        sys.stdout.reconfigure(errors="backslashreplace" if sys.stdout.isatty() else "surrogateescape")
    log = logging.getLogger("msdm_lite")
    log.addHandler(handler)
    try:
        code = run()
    except (InputError, FloatingPointError) as problem:
        print(f"msdm-lite: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as problem:  # of a file or a disk
        print(f"msdm-lite: {problem.filename}: {problem.strerror}" if problem.filename else f"msdm-lite: {problem}",
              file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as problem:
        if not (isinstance(problem, MemoryError) or "not enough memory" in str(problem)
                or type(problem).__name__ == "OutOfMemoryError"):  # by name, so that torch is not imported
            raise
        print("msdm-lite: out of memory: take shorter sounds, fewer at a time or a smaller model", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("msdm-lite: interrupted", file=sys.stderr)
        return 130
    finally:
        log.removeHandler(handler)
    return code if isinstance(code, int) else 0


def ignore_interrupts(*_: object) -> None:
    """Ignore Ctrl-C, in worker processes: a terminal sends it to all processes, and only the main one handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
