"""Old import paths of modules that plugins may use, and old names in them. Each still works, with a DeprecationWarning.

The paths of version 0.1 are kept until 1.0. The list has only modules that a method, a dataset or a script of somebody
else's had a reason to import.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "adapters": ("data.adapters",),
    "archives": ("data.archives",),
    "ascent": ("networks.attacked",),
    "checkpoints": ("training.checkpoints",),
    "cifar": ("data.cifar",),
    "consistency": ("ops.kernels.jensen_shannon",),
    "crops": ("ops.crops",),
    "devices": ("core.devices",),
    "dual_norm": ("networks.dual_norm",),
    "errors": ("core.errors", "runs.command_line"),
    "fetch": ("data.remote.fetch",),
    "figures": ("report.figures.all_figures",),
    "formats": ("report.table_files",),
    "fourier": ("sensitivity.fourier",),
    "image_files": ("data.image_files",),
    "image_ops": ("ops.augmix",),
    "kernels": ("ops.kernels",),
    "kernels.augment_mix": ("ops.kernels.augment_mix",),
    "kernels.jensen_shannon": ("ops.kernels.jensen_shannon",),
    "kernels.random_convolution": ("ops.kernels.random_convolution",),
    "kernels.spectrum_step": ("ops.kernels.spectrum_step",),
    "loaders": ("ops.batch_transforms",),
    "mix_ascent": ("ops.attacks.mix",),
    "pillow_ops": ("ops.pillow",),
    "pixel_ascent": ("ops.attacks.pixel",),
    "plain": ("core.regular_files",),
    "precision": ("networks.precision",),
    "random_conv": ("ops.random_conv",),
    "readers": ("data.readers",),
    "recipe": ("core.recipe",),
    "remote": ("data.remote.remote_file",),
    "rng": ("core.rng",),
    "safe_pickle": ("data.safe_pickle",),
    "sources": ("data.remote.sources",),
    "spec": ("core.images", "core.record", "core.outcome"),
    "spectrum": ("ops.attacks.spectrum",),
    "stream": ("core.stream",),
    "texts": ("core.escaping",),
    "timing": ("core.timing",),
    "training_figures": ("report.figures.learning_curves",),
    "wae": ("ops.autoencoder",),
}
"""Old path -> the modules, below benchmark, that hold now what it held."""


RENAMED = {
    "checkpoints": {"load": "load_checkpoint", "save": "save_checkpoint"},
    "kernels.jensen_shannon": {
        "jensen_shannon": "divergence", "jensen_shannon_torch": "divergence_torch",
        "jensen_shannon_triton": "divergence_triton",
    },
    "kernels.spectrum_step": {"ascend": "ascend_torch", "to_image": "to_image_torch"},
    "loaders": {"load": "transform_batch"},
    "mix_ascent": {"Ascent": "AttackedMix", "attack": "attack_mixing"},
    "pixel_ascent": {
        "Ascent": "PixelAttack", "Terms": "ObjectiveTerms", "ascend": "ascend_pixels", "attack": "attack_pixels",
    },
    "spectrum": {"attack": "attack_spectrum"},
}  # fmt: skip
"""Old path -> old names in it -> what they are called now."""


class MovedWarning(DeprecationWarning):
    """A plugin imports something under an older path or name."""


def homes(module: str) -> list[str]:
    """The modules that hold now what this one held; none for one that has not moved."""
    return [f"benchmark.{home}" for home in MOVED.get(module.removeprefix("benchmark."), ())]


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix("benchmark.")
        return ModuleSpec(fullname, self, is_package=name == "kernels") if fullname != name and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old, now = module.__name__, homes(module.__name__)
        renamed = RENAMED.get(old.removeprefix("benchmark."), {})
        warnings.warn(f"{old} has moved: import {' or '.join(now)}", MovedWarning, stacklevel=2)
        if len(now) == 1 and not renamed and old != "benchmark.kernels":  # whose modules are found one by one
            sys.modules[old] = import_module(now[0])  # the module itself: what is set in it is set there
            return

        def __getattr__(name: str) -> Any:  # noqa: N807 - what Python calls for a name that a module lacks
            wanted = renamed.get(name, name)
            for home in now:
                if not name.startswith("__") and hasattr(found := import_module(home), wanted):
                    if wanted != name:
                        warnings.warn(f"{old}.{name} is {home}.{wanted} now", MovedWarning, stacklevel=2)
                    return getattr(found, wanted)
            raise AttributeError(f"module '{old}' has no attribute '{name}'")

        vars(module)["__getattr__"] = __getattr__


def keep() -> None:
    """Old paths are found from here on, after all that are there."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def show() -> None:
    """Shows the warnings, once for each line that deserves one. Without this Python shows them where it is asked to:
    a program's user is told, a library's user is not. An option of the user's own (-W, PYTHONWARNINGS) goes first."""
    if not sys.warnoptions:
        warnings.simplefilter("default", MovedWarning)
