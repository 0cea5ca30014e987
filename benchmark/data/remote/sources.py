"""Where the files of well-known image sets come from: addresses, sizes and published hashes, for datasets to use.

torchvision, TensorFlow Datasets, Zenodo or Git LFS state these hashes and sizes. If no SHA-256 was found, the hash is
an MD5. Further addresses are those that other public loaders use for the same hash.
"""

from benchmark.data.remote.remote_file import Remote

LICENCE_MNIST = "CC BY-SA 3.0 (Y. LeCun and C. Cortes, as Keras's documentation has it)"
NOT_STATED = "not stated by its authors"
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)


def _mnist(name: str, size: int, packed: str, unpacked: str) -> Remote:
    return Remote(
        f"MNIST/raw/{name}.gz",
        licence=LICENCE_MNIST,
        origin="http://yann.lecun.com/exdb/mnist/",
        urls=tuple(f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS),
        hash=f"sha256:{packed}",
        size=size,
        unpacked={f"MNIST/raw/{name}": f"sha256:{unpacked}"},
    )


MNIST = (
    _mnist(
        "train-images-idx3-ubyte",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    _mnist(
        "train-labels-idx1-ubyte",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    _mnist(
        "t10k-images-idx3-ubyte",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    _mnist(
        "t10k-labels-idx1-ubyte",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
USPS_TEST = Remote(
    "usps.t.bz2",
    licence=NOT_STATED,
    origin="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps",
    urls=("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.t.bz2",),
    hash="sha256:a9c0164e797d60142a50604917f0baa604f326e9a689698763793fa5d12ffc4e",
    limit=2**24,
    copies={
        "sha256:22bb89593ed8a6c80fbd69e16bc34c935f462e7c8531a812fc3d2a141d17c298": (
            "a known copy, 494,328 bytes, values of at most three decimals; not the bytes that libsvm's site serves"
        )
    },
)
SVHN_TEST = Remote(
    "test_32x32.mat",
    licence="for non-commercial use only (its page)",
    origin="http://ufldl.stanford.edu/housenumbers/",
    urls=(
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        "https://cseweb.ucsd.edu/~weijian/static/datasets/svhn/test_32x32.mat",
    ),
    hash="sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    size=64_275_384,
)
SYN_TEST = Remote(
    "synth_test_32x32.mat",
    licence="CC BY 4.0 (README of its mirror)",
    origin="https://github.com/domainadaptation/datasets/tree/master/synth",
    urls=(
        "https://media.githubusercontent.com/media/domainadaptation/datasets/"
        "91ff02225a73db330883843bc41ee3aca59a19d9/synth/synth_test_32x32.mat",
    ),
    hash="sha256:6285fe9a1c6f27b379a47263907a37899b59ce86948fd343a5b904435cde5bcc",
    size=17_851_156,
)
MNIST_M_FOLDER = Remote(
    "mnist_m.tar.gz",
    licence=NOT_STATED,
    origin="http://yaroslav.ganin.net (MNIST-M, unpacked version)",
    urls=(
        "https://cornell.box.com/shared/static/jado7quprg6hzzdubvwzh9umr75damwi",
        "https://drive.google.com/uc?export=download&id=0B_tExHiYS-0veklUZHFYT19KYjg&confirm=t",
    ),
    hash="md5:859df31c91afe82e80e5012ba928f279",
    limit=2**31,
    unpacked={"mnist_m/mnist_m_test/": "", "mnist_m/mnist_m_test_labels.txt": ""},
)
MNIST_M_TEST_TAR = Remote(
    "mnist_m_test.tar",
    licence=NOT_STATED,
    origin="http://yaroslav.ganin.net (MNIST-M), its test part in an archive of its own",
    instead_of="mnist_m.tar.gz",
)
MNIST_M_PICKLE = Remote(
    "keras_mnistm.pkl.gz",
    licence=NOT_STATED,
    origin="https://github.com/VanushVaswani/keras_mnistm/releases",
    urls=("https://github.com/VanushVaswani/keras_mnistm/releases/download/1.0/keras_mnistm.pkl.gz",),
    limit=2**31,
    unpacked={"keras_mnistm.pkl": ""},
)
CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
CIFAR10 = Remote(
    "cifar-10-python.tar.gz",
    licence=NOT_STATED,
    origin=CIFAR_PAGE,
    urls=tuple(f"{mirror}cifar-10-python.tar.gz" for mirror in CIFAR_MIRRORS),
    hash="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    size=170_498_071,
    unpacked={
        "cifar-10-batches-py/data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "md5:40351d587109b95175f43aff81a1287e",
    },
)
CIFAR100 = Remote(
    "cifar-100-python.tar.gz",
    licence=NOT_STATED,
    origin=CIFAR_PAGE,
    urls=tuple(f"{mirror}cifar-100-python.tar.gz" for mirror in CIFAR_MIRRORS),
    hash="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    size=169_001_437,
    unpacked={
        "cifar-100-python/train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
)
