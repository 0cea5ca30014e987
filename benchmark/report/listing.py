"""What `--list` shows. It reads this project's files without importing them, which would import torch."""

from rich.console import Console

from benchmark import protocols, registry


def show_list(console: Console) -> None:
    """Prints methods, datasets and protocols with one line each."""
    kinds: tuple[registry.Kind, ...] = ("method", "dataset")
    for kind in kinds:
        console.print(f"{kind}s", style="bold")
        for name in registry.names(kind):
            summary, experimental, in_all = registry.outline(kind, name)
            newer = "" if in_all else " (in `everything`, not in `all`)"
            note = " (experimental; not in `all`)" if experimental else newer
            console.print(f"  {name:<12} {summary}{note}", highlight=False, markup=False, soft_wrap=True)
    console.print("protocols", style="bold")
    for name, summary in protocols.PROTOCOLS.items():
        console.print(f"  {name:<12} {summary}", highlight=False, markup=False, soft_wrap=True)
