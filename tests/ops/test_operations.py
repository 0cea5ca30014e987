"""The numbers of the operations stand in one list, ops/operations.py; every form of the kernels reads them there."""

import ast
import re

import pytest

from benchmark.ops import operations
from benchmark.ops.kernels.dispatch import triton_form
from tests.conftest import ROOT

FORMS = [path.name for path in sorted((ROOT / "benchmark" / "ops" / "kernels").glob("*.py"))]


def numbers_compared(source: str) -> list[str]:
    """Comparisons of an operation, `op`, with numbers that stand in the source; with 0, which tells one from none, is
    none."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [side for one in (node.left, *node.comparators) for side in getattr(one, "elts", [one])]
            whole = any(isinstance(side, ast.Constant) and isinstance(side.value, int) for side in sides)
            if (
                whole
                and re.search(r"\bop?\b(?!\.shape)", ast.unparse(node))
                and not isinstance(node.ops[0], ast.GtE | ast.Lt)
            ):
                found.append(ast.unparse(node))
    return found


def test_each_operation_has_its_place_in_the_list_as_its_number() -> None:
    numbers = {name.lower(): value for name, value in vars(operations).items() if isinstance(value, int)}
    assert numbers == {name: number for number, name in enumerate(operations.OPS)}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_has_numbers_of_its_own(form: str) -> None:
    assert numbers_compared((ROOT / "benchmark" / "ops" / "kernels" / form).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", ["op == 0", "op in (7, 8)", "op <= 6", "tl.load(op + i) == 3", "op[step] == 12"])
def test_a_number_that_is_planted_is_found(line: str) -> None:
    assert numbers_compared(f"if {line}:\n    pass") == [line]


def test_those_of_triton_are_those_of_the_list() -> None:
    pytest.importorskip("triton")
    form = vars(triton_form("pillow_triton"))
    theirs = {name.lower(): form[name].value for name in form if name.isupper() and name.lower() in operations.OPS}
    assert theirs
    assert theirs == {name: operations.OPS.index(name) for name in theirs}
    assert operations.SHEAR_X < operations.SHEAR_Y < operations.TRANSLATE_X  # its order of questions relies on it
