"""What models are called: those that runs started from, and those of a ratio."""

from collections.abc import Iterable
from pathlib import Path


def names_of_models(given: Iterable[str]) -> dict[str, str]:
    """Return what models are called: of a path as little of its end as tells it from others, else what was given.

    Args:
        given: ids of the hub, and paths.

    Example:
        >>> [*names_of_models(["/a/one/minilm", "/a/other/minilm", "/a/tiny", "some/model"]).values()]
        ['one/minilm', 'other/minilm', 'tiny', 'some/model']
    """
    paths = {name: Path(name) for name in dict.fromkeys(given)}

    def end(path: Path, length: int) -> str:
        return "/".join(path.parts[-length:]) if path.is_absolute() else str(path)

    names = {}
    for name, path in paths.items():
        others = [other for other in paths.values() if other != path]
        lengths = range(1, len(path.parts))
        apart = (end(path, n) for n in lengths if all(end(path, n) != end(other, n) for other in others))
        names[name] = next(apart, str(path)) if path.is_absolute() else name
    return names


def name_of_ratio(ratio: float) -> str:
    """Return what the model of a ratio is called, in the names of its files and on the page.

    Example:
        >>> name_of_ratio(2), name_of_ratio(3.2)
        ('2x', '3.2x')
    """
    return f"{ratio:g}x"
