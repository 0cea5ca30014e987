"""The first convolution's own gradient: equal to torch's, once and twice differentiated."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.networks import stem


@pytest.mark.parametrize(("kernel", "shape"), [(5, (3, 3, 32, 32)), (3, (2, 3, 10, 8)), (2, (1, 3, 6, 4))])
def test_gradients_equal_those_of_torch(kernel: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = stem.Stem(3, 7, kernel).double()
    out = layer(x)
    assert "_Convolution" in type(out.grad_fn).__name__  # this module's, not torch's
    same = F.conv2d(x, layer.weight, layer.bias)
    assert torch.equal(out, same)
    grad = torch.rand(out.shape, generator=generator, dtype=torch.float64)
    assert layer.bias is not None
    wanted = [x, layer.weight, layer.bias]
    for got, want in zip(torch.autograd.grad(out, wanted, grad), torch.autograd.grad(same, wanted, grad), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = stem.Stem(3, 2, 3).double()

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = stem._Convolution.apply(x, weight, bias)
        return found.square()

    assert layer.bias is not None
    assert torch.autograd.gradgradcheck(function, (x, layer.weight, layer.bias))


def test_it_stays_out_of_the_way() -> None:
    """Without a gradient to the image, with an odd side or a stride, the layer is torch's own."""
    plain = nn.Conv2d(3, 4, 3)
    layer = stem.Stem(3, 4, 3)
    layer.load_state_dict(plain.state_dict())
    for x in (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 7, 8).requires_grad_()):
        out = layer(x)
        assert torch.equal(out, plain(x))
        assert "_Convolution" not in type(out.grad_fn).__name__
