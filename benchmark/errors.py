"""What a user is meant to read: what was wrong, where, and what is allowed; and how a command ends."""

import atexit
import difflib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn


class UsageError(Exception):
    """Bad input from the user: printed as one message, without a traceback; the process exits with code 2."""


def describe(problem: OSError) -> str:
    """A failed read or write in one line: which file, and why."""
    return f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing hint for an unknown name: the closest known one, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def leave(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of `main`: quietly where the reader of its output is gone (`| head`), and at
    once where a signal ended it, so that it is over in time."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter's own flush would complain
        code = 141  # as a shell counts a process that SIGPIPE ended
    if code > 128:
        leave_at_once(code)
    sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
    """Ends the process as ever, but for taking its modules apart, which takes seconds with torch among them."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
