"""The referee for domain-generalization augmentations: everything that is equal for all methods."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import moved
from benchmark.imports import import_module

__version__ = "0.1.0"

# In a checkout, methods/ and datasets/ stand at the top of the repository and are imported as benchmark.methods.x and
# benchmark.datasets.x (docs/adr/0001). A wheel carries them inside this package and needs no second path.
if not (Path(__file__).parent / "methods").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))

moved.keep()

if TYPE_CHECKING:
    from benchmark.api import compare as compare
    from benchmark.api import results as results
    from benchmark.augment import augmentation as augmentation
    from benchmark.export import load_model as load_model
else:  # imported when they are asked for: every module imports this package, and most need none

    def __getattr__(name: str) -> Any:
        homes = {"augmentation": "benchmark.augment", "load_model": "benchmark.export"}
        homes |= dict.fromkeys(("compare", "results"), "benchmark.api")
        if name not in homes:
            raise AttributeError(f"module 'benchmark' has no attribute '{name}'")
        return getattr(import_module(homes[name]), name)
