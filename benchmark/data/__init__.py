"""Files become decoded images. This package exports the names of a dataset's contract, benchmark/data/dataset.py.

`python -m benchmark.data` lists datasets, fetches and verifies their files.
"""

from benchmark.core.errors import MissingDataError as MissingDataError
from benchmark.core.settings import frozen as frozen
from benchmark.data.dataset import Dataset as Dataset
from benchmark.data.dataset import Layout as Layout
from benchmark.data.dataset import Loaded as Loaded
from benchmark.data.dataset import Split as Split
from benchmark.data.dataset import decode as decode
from benchmark.data.dataset import fingerprint as fingerprint
from benchmark.data.dataset import fingerprint_of as fingerprint_of
from benchmark.data.dataset import load as load
