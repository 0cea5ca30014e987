"""What a method does in a run beside one loss a step, counted in closed form, so that a run's time can be foretold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Counts of one run. A pass is an image's way forward and backward through the network; a forward counts 1/3."""

    per_image: float | None = None
    """Passes for each source image, mean over all steps; None: the same at each step, so that one step shows it."""
    attacked: float = 0.0
    """Passes of all phases together, in `expand`."""
    encoded: int = 0
    """Images that an autoencoder is trained on in `setup`, counted anew in each epoch."""
    encoded_later: int = 0
    """The same in `expand`."""
    helpers: int = 0
    """ERM networks that are trained in `setup`, each as long as the run."""
    mapped: int = 0
    """Validation images under a sensitivity map in `setup`."""
