"""Errors that a user is meant to read: what was wrong, where, and what is allowed."""

import difflib
from collections.abc import Iterable

from benchmark.core.escaping import plain


class UsageError(Exception):
    """Bad input from the user: printed as one message, without a traceback; the process exits with code 2.

    It may quote what it was given, and shows no control characters of that.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


class MissingDataError(UsageError):
    """A domain's files are not there; the message says where to put which file. Other domains can go on without it."""


def describe(problem: OSError) -> str:
    """A failed read or write in one line: which file, and why."""
    return plain(f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing hint for an unknown name: the closest known one, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
