"""Networks: how they are built, what weights they start from, in what precision they compute."""

from benchmark.networks.classifiers import Classifier as Classifier
from benchmark.networks.classifiers import build as build
from benchmark.networks.classifiers import by_size as by_size
from benchmark.networks.classifiers import check as check
from benchmark.networks.classifiers import check_size as check_size
from benchmark.networks.classifiers import layout as layout
