"""Where an operation is computed."""

from collections.abc import Iterator

import pytest

from benchmark.ops.kernels import augment_mix


@pytest.fixture(scope="module", params=["torch", "compiled"])
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is tested holds for the definition in torch and for the compiled operations."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert augment_mix._pillow_cpu() is not None
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment_mix, "_pillow_cpu", lambda: None)
        yield
