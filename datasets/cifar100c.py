"""CIFAR-100 against fifteen corruptions of its test images at five severities each (CIFAR-100-C).

Card: docs/datasets/cifar100c.md.
"""

from benchmark.core.settings import frozen
from benchmark.data import cifar
from benchmark.data.remote import sources, sources_cifar_c

CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""


@frozen()
class Dataset(cifar.Cifar):
    """CIFAR-100 (its 100 fine classes) as the source; CORRUPTION/SEVERITY as targets."""

    classes = tuple(CLASSES.split())
    licence = "CIFAR-100: none stated by its authors; CIFAR-100-C: see its Zenodo record"
    citation = "Krizhevsky 2009 (CIFAR-100), Hendrycks and Dietterich, ICLR 2019 (CIFAR-100-C): see the card"
    files = cifar.Files(
        domain="cifar100",
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        label_key="fine_labels",
        jpeg=("cifar100-jpg", "cifar100-jpg.tar.xz"),
        corrupted="CIFAR-100-C",
        archive=sources.CIFAR100.path,
        origin=sources.CIFAR100.origin,
        corrupted_origin=sources_cifar_c.CIFAR100_C.origin,
    )
    original = sources.CIFAR100
    arrays = sources_cifar_c.CIFAR100_C
