"""How a program here ends: what its exit code is, and what it says where somebody or something is at fault."""

import atexit
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, ParamSpec

from benchmark import moved
from benchmark.core import standard_streams
from benchmark.core.errors import UsageError, describe

Words = ParamSpec("Words")


def explained(kept: str = "") -> Callable[[Callable[Words, int]], Callable[Words, int]]:
    """Decorator of a program's `main`: one sentence and no traceback where the user or the system is at fault, and the
    exit code 2; 130 by Ctrl-C, 143 by SIGTERM. kept: what is not lost by that."""

    def decorate(main: Callable[Words, int]) -> Callable[Words, int]:
        @functools.wraps(main)
        def explaining(*args: Words.args, **kwargs: Words.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except UsageError as problem:
                print(f"error: {problem}", file=sys.stderr)
                return 2
            except OSError as problem:  # a full disk, a folder that may not be read
                print(f"error: {describe(problem)}{_fix(problem)}{kept and '; '}{kept}", file=sys.stderr)
                return 2
            except KeyboardInterrupt as problem:
                print(f"interrupted{kept and ': '}{kept}", file=sys.stderr)
                return getattr(problem, "code", 130)

        return explaining

    return decorate


def _fix(problem: OSError) -> str:
    in_the_way = isinstance(problem, FileExistsError | NotADirectoryError)
    return "; a file lies where a folder has to be, so move it away or name another folder" if in_the_way else ""


def leave(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of `main`, as every program here ends: 141 where the reader of its output is
    gone (`| head`), as a shell counts a process that SIGPIPE ended; 2 where the output could not be written."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that is closed ends nothing; inherited by workers
    out = standard_streams.guard()
    moved.show()
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    if isinstance(out.problem, BrokenPipeError) and code in (0, 1):
        code = 141
    elif out.problem and out.problem.errno != errno.EIO and code == 0:  # EIO: the terminal was closed
        print(f"error: standard output cannot be written: {out.problem.strerror}", file=sys.stderr)
        code = 2
    leave_at_once(code)


def leave_at_once(code: int) -> NoReturn:
    """Ends the process as ever, except for taking its modules apart, which takes seconds with torch among them, and in
    which threads that pyarrow left may abort it."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
