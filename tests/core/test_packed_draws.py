"""Draws in one buffer come out as they went in, and what a buffer does not hold is noticed."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from benchmark.core.packed_draws import ALIGNED, Packing, form, sent, tensors_of, with_tensors

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Draw:
    flags: Tensor
    values: Tensor
    more: Tensor | None = None
    size: int = 3


def draw(size: int = 3) -> Draw:
    return Draw(torch.tensor([True, False, True]), torch.rand(4, 2, dtype=torch.float64).t(), None, size)


def test_tensors_come_out_as_they_went_in() -> None:
    strided = torch.rand(3, 2)[:, 0]
    tensors = [*tensors_of(draw()), torch.tensor(7), torch.empty(0, 3), torch.rand(5).to(torch.bfloat16), strided]
    packing = Packing.of(tensors)
    assert all(first % ALIGNED == 0 for first, *_ in packing.places)
    buffer = packing.pack(tensors, CPU)
    assert (buffer.dtype, buffer.shape) == (torch.uint8, (packing.size,))
    for there, tensor in zip(packing.unpack(buffer), tensors, strict=True):
        assert there.dtype == tensor.dtype
        assert there.is_contiguous()
        assert torch.equal(there, tensor)


def test_other_tensors_do_not_fit() -> None:
    packing = Packing.of([torch.zeros(3)])
    for other in (torch.zeros(4), torch.zeros(3, dtype=torch.int32)):
        with pytest.raises(ValueError, match="as before"):
            packing.pack([other], CPU)
    with pytest.raises(ValueError, match="argument"):
        packing.pack([torch.zeros(3)] * 2, CPU)


def test_draws_are_a_tensor_or_a_dataclass_of_them() -> None:
    one, drawn = torch.rand(2), draw()
    assert tensors_of(one) == [one]
    assert with_tensors(one, [drawn.values]) is drawn.values
    assert with_tensors(drawn, tensors_of(drawn)) == drawn
    with pytest.raises(TypeError, match="not list"):
        tensors_of([one])


def test_the_form_of_draws_is_all_but_the_numbers() -> None:
    assert form(draw()) == form(draw())
    assert form(draw()) != form(draw(size=4))
    assert form(draw()) != form(Draw(torch.zeros(3), draw().values))
    assert form(draw()) != form(Draw(draw().flags, draw().values, torch.zeros(1)))
    assert form(torch.zeros(2)) == form(torch.ones(2))
    assert form(torch.zeros(2)) != form(torch.zeros(3))


def test_what_is_sent_arrives() -> None:
    drawn = draw()
    there = sent(drawn, CPU)
    assert torch.equal(there.flags, drawn.flags)
    assert torch.equal(there.values, drawn.values)
    assert (there.more, there.size) == (None, 3)
