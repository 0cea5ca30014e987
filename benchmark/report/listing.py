"""What `--list` shows. It reads this project's files without importing them, which would import torch."""

from rich.console import Console

from benchmark import protocols, registry

NETWORKS = {
    "mini_convnet": "two convolutions, for seconds on a CPU; 32x32",
    "digits_convnet": "two convolutions and 4.5 million weights, of the digits benchmark; 32x32",
    "digits_convnet_01": "the same, inputs not scaled",
    "digits_convnet_tf": "the same, inputs not scaled, first weights as TensorFlow's",
    "wrn_40_2": "WideResNet-40-2, of the CIFAR benchmarks",
    "wrn_40_2_01": "the same, inputs not scaled",
    "wrn_16_4": "WideResNet-16-4",
    "resnet18_cifar": "ResNet-18 whose first layer does not halve the image",
    "timm:NAME": "any image classifier of timm, as timm:resnet18; --weights pretrained fetches its weights",
}
"""What `--network` takes; benchmark.networks, which makes them, imports torch."""


def show_list(console: Console) -> None:
    """Prints methods, datasets, protocols and networks with one line each."""
    kinds: tuple[registry.Kind, ...] = ("method", "dataset")
    for kind in kinds:
        console.print(f"{kind}s", style="bold")
        for name in registry.names(kind):
            summary, experimental, in_all = registry.outline(kind, name)
            newer = "" if in_all else " (in `everything`, not in `all`)"
            note = " (experimental; not in `all`)" if experimental else newer
            console.print(f"  {name:<12} {summary}{note}", highlight=False, markup=False, soft_wrap=True)
    for title, named in (("protocols", protocols.PROTOCOLS), ("networks", NETWORKS)):
        console.print(title, style="bold")
        for name, summary in named.items():
            console.print(f"  {name:<12} {summary}", highlight=False, markup=False, soft_wrap=True)
