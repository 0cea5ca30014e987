"""What a user is meant to read: what was wrong, where, and what is allowed; and how a command ends."""

import atexit
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from benchmark import streams
from benchmark.texts import plain


class UsageError(Exception):
    """Bad input from the user: printed as one message, without a traceback; the process exits with code 2.

    It may quote what it was given, and shows no control characters of that.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


def describe(problem: OSError) -> str:
    """A failed read or write in one line: which file, and why."""
    return plain(f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing hint for an unknown name: the closest known one, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def leave(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of `main`, as every program here ends: one sentence and no traceback where
    the user or the system is at fault; 141 where the reader of its output is gone (`| head`), as a shell counts a
    process that SIGPIPE ended; 2 where the output could not be written."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that is closed ends nothing; inherited by workers
    out = streams.guard()
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except (UsageError, OSError) as problem:
        print(f"error: {describe(problem) if isinstance(problem, OSError) else problem}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as problem:
        print("interrupted", file=sys.stderr)
        code = getattr(problem, "code", 130)
    sys.stdout.flush()
    if isinstance(out.problem, BrokenPipeError) and code in (0, 1):
        code = 141
    elif out.problem and out.problem.errno != errno.EIO and code == 0:  # EIO: the terminal was closed
        print(f"error: standard output cannot be written: {out.problem.strerror}", file=sys.stderr)
        code = 2
    leave_at_once(code)


def leave_at_once(code: int) -> NoReturn:
    """Ends the process as ever, but for taking its modules apart, which takes seconds with torch among them, and in
    which threads that pyarrow left may abort it."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
