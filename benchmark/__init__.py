"""The referee for domain-generalization augmentations: everything that is equal for all methods."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout, methods/ and datasets/ stand at the top of the repository and are imported as benchmark.methods.x and
# benchmark.datasets.x (docs/adr/0001). A wheel carries them inside this package and needs no second path.
if not (Path(__file__).parent / "methods").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
