"""What other programs say, and that one which says nothing is as good as absent."""

from pathlib import Path

import pytest

from benchmark.runs import programs


def test_an_answer_is_what_the_program_printed_without_the_space_around_it() -> None:
    assert programs.output("echo", " two words ") == "two words"


def test_what_a_program_that_fails_has_printed_is_no_answer() -> None:
    assert programs.output("sh", "-c", "echo half an answer; exit 3") is None


def test_a_program_that_takes_too_long_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SECONDS", 0.01)
    assert programs.output("sleep", "60") is None


def test_a_program_that_is_absent_or_cannot_be_started_gives_no_answer(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    assert programs.output(str(broken)) is None
    assert programs.output(str(tmp_path / "absent")) is None
