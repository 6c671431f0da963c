"""Versions of the plan's JSON: what an older one lacks is filled in, one version after the other.

A new field raises the version, gets a row here with what stands for it in older plans, and a golden file in
tests/plan/golden. So every version loads for ever, and one strict reader serves them all.
"""

from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

FORMAT = "axformer-plan"
VERSION = 5


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a plan of any version as the current version has them.

    What is malformed passes as it is, for the reader to refuse.

    Raises:
        ValueError: if it is no plan, or of a later version.

    Example:
        >>> plan = {"format": "axformer-plan", "version": 1, "layers": [], "decisions": [{"loss": 0.5}]}
        >>> upgraded(plan)["decisions"]
        [{'metric': None, 'metric_before': None, 'encoder_parameters': None, 'loss': 0.5}]
    """
    if data["format"] != FORMAT:
        raise ValueError(f"Expected `format` {FORMAT!r}, got {short(data['format'])}.")
    version = data["version"]
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"Expected a plan of version 1 to {VERSION}, got {short(version)}. Update axformer-lightning to read it."
        )
    fields = dict(data)
    for older in range(version, VERSION):
        fields = UPGRADES[older](fields)
    return fields


def _with_measures(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2: decisions say the rule's metric, which some plans of version 1 do, and the encoder's size."""
    new = dict.fromkeys(("metric", "metric_before", "encoder_parameters"))
    return data | {"decisions": _each(data["decisions"], lambda decision: new | decision)}


def _as_cut(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3: plans say whether weights were repaired, which nothing did before."""
    return {"repaired": False} | data


def _in_floats(data: dict[str, Any]) -> dict[str, Any]:
    """Version 4: layers say what of them is in int8, which nothing was before."""
    return data | {"layers": _each(data["layers"], lambda layer: {"int8": []} | layer)}


def _dynamic(data: dict[str, Any]) -> dict[str, Any]:
    """Version 5: layers say the ranges of blocks in static int8, of which there were none before."""
    return data | {"layers": _each(data["layers"], lambda layer: {"int8_ranges": []} | layer)}


def _each(items: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if not isinstance(items, list):
        return items
    return [change(dict(item)) if isinstance(item, Mapping) else item for item in items]


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _with_measures,
    2: _as_cut,
    3: _in_floats,
    4: _dynamic,
}
