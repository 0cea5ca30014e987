"""A kept network as a repository of the Hugging Face hub: its folder, and the upload.

Nothing is sent but by `push`. All files go in one commit, so a repository never holds weights of one run beside the
record of another.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from benchmark.core.errors import UsageError, describe
from benchmark.core.record import Record
from benchmark.runs import timm_form
from benchmark.runs.card import hub_card
from benchmark.runs.records import RECORD, WEIGHTS

README = "README.md"
FILES = (README, RECORD, WEIGHTS, "config.json", "model.safetensors")
"""All that a folder may hold; the last two where the network loads into timm."""


def check_new(folder: Path) -> None:
    """Raises UsageError for a folder with something in it, or one that cannot be read."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"--folder {folder}: there is something already; name a new folder")
    except OSError as problem:
        raise UsageError(f"--folder {describe(problem)}") from problem


def write_folder(
    folder: Path, run_dir: Path, record: Record, timm_net: Callable[[], nn.Module], repository: str, licence: str | None
) -> str | None:
    """Writes what `push` sends into a new or empty folder. Returns why the network does not load into timm, or None.

    timm_net: gives the network in timm's form, or raises UsageError. Raises UsageError where a file cannot be read or
    written.
    """
    plain, not_timm = None, None
    try:
        plain = timm_net()
    except timm_form.NoFormError as problem:
        not_timm = str(problem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RECORD, WEIGHTS):
            (folder / name).write_bytes((run_dir / name).read_bytes())
        if plain is not None:
            timm_form.write(plain, folder)
        (folder / README).write_text(hub_card(record, repository, not_timm, licence), encoding="utf-8")
    except BaseException as problem:
        for name in FILES:  # the same command, given again, wants an empty folder
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise UsageError(f"the export to {folder} failed: {describe(problem)}") from problem
        raise
    return not_timm


def check_target(repository: str) -> None:
    """Raises UsageError for what is no OWNER/NAME, and where nobody is logged in."""
    from huggingface_hub import get_token  # noqa: PLC0415 - slow to import, and few commands need it
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # noqa: PLC0415

    try:
        validate_repo_id(repository)
    except ValueError as problem:
        raise UsageError(f"--push-to-hub {repository}: {_line(problem)}") from problem
    if repository.count("/") != 1:
        raise UsageError(f"--push-to-hub {repository}: name the repository as OWNER/NAME")
    if not get_token():
        raise UsageError(
            "--push-to-hub: there is no token; log in with `hf auth login`, or set HF_TOKEN to one with write access "
            "(https://huggingface.co/settings/tokens)"
        )


def push(folder: Path, repository: str, *, private: bool, message: str) -> str:
    """Sends a folder's files to a repository of the hub, which is made where there is none, in one commit; returns the
    repository's address. Of these files, those that the folder lacks are deleted there; others are left alone.

    private: makes a new repository private. Raises UsageError where there is a public one, before anything is sent, and
    where the hub refuses or is not reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi  # noqa: PLC0415 - as above

    api = HfApi(library_name="dg-referee")
    try:
        address = str(api.create_repo(repository, private=private or None, exist_ok=True))
        if private and not api.model_info(repository).private:
            raise UsageError(
                f"--private: {repository} is there already and is public; make it private in its settings on the hub, "
                "or name another; nothing was sent"
            )
        names = [name for name in FILES if (folder / name).is_file()]
        there = set(api.list_repo_files(repository))
        operations: list[Any] = [CommitOperationAdd(name, str(folder / name)) for name in names]
        operations += [CommitOperationDelete(name) for name in FILES if name in there and name not in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hub's advice about the card's metadata
            api.create_commit(repository, operations, commit_message=message)
    except UsageError:
        raise
    except Exception as problem:  # its transports raise whatever they raise
        raise UsageError(f"--push-to-hub {repository}: {_why(problem)}") from problem
    return address


def _why(problem: Exception) -> str:
    """What went wrong at the hub, and what to do."""
    status = getattr(getattr(problem, "response", None), "status_code", None)
    said = _line(getattr(problem, "server_message", None) or problem)
    advice = {
        401: "the hub does not know the token; log in again with `hf auth login`, or set HF_TOKEN",
        403: "the token may not write there; take one with write access, and an OWNER that is you or your organisation",
        404: "there is no such repository, or the token may not see it",
    }
    if status is not None:
        return f"{advice.get(status, 'the hub refused')} ({status}: {said})"
    if isinstance(problem, ValueError):  # what it says of a card's metadata
        return f"the hub refused: {said}"
    return f"the hub was not reached: {said}; the same command tries again"


def _line(problem: object) -> str:
    """A message in one line."""
    return " ".join(str(problem).split()) or type(problem).__name__
