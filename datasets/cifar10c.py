"""CIFAR-10 against fifteen corruptions of its test images at five severities each (CIFAR-10-C).

Card: docs/datasets/cifar10c.md.
"""

from benchmark.core.settings import frozen
from benchmark.data import cifar
from benchmark.data.remote import sources, sources_cifar_c


@frozen()
class Dataset(cifar.Cifar):
    """CIFAR-10 as the source; CORRUPTION/SEVERITY as targets."""

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    licence = "CIFAR-10: none stated by its authors; CIFAR-10-C: CC BY 4.0"
    citation = "Krizhevsky 2009 (CIFAR-10), Hendrycks and Dietterich, ICLR 2019 (CIFAR-10-C): see the card"
    files = cifar.Files(
        domain="cifar10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{n}" for n in range(1, 6)),
        test=("test_batch",),
        label_key="labels",
        jpeg=("cifar10-jpg", "cifar10-jpg.tar.xz"),
        corrupted="CIFAR-10-C",
        archive=sources.CIFAR10.path,
        origin=sources.CIFAR10.origin,
        corrupted_origin=sources_cifar_c.CIFAR10_C.origin,
    )
    original = sources.CIFAR10
    arrays = sources_cifar_c.CIFAR10_C
