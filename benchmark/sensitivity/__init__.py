"""Sensitivity maps: a trained network's error when one Fourier wave is added to its input, wave by wave."""

from benchmark.sensitivity.map import SensitivityMap as SensitivityMap
from benchmark.sensitivity.map import from_centered as from_centered
from benchmark.sensitivity.map import measure as measure
from benchmark.sensitivity.map import spectral_weights as spectral_weights
