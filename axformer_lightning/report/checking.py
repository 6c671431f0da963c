"""What the files of a run have to look like for a report; each check raises a ``ValueError`` that names the entry.

A file that fails its check is noted and left out, so one broken run does not take the others along.
"""

from collections.abc import Callable, Mapping
from typing import Any

from axformer_lightning.basics.reading import read_count, read_list, read_number, read_typed

MOST_DAMAGE = 1e6  # more is nothing that a model that works comes to, and no scale shows it
BLOCKS = ("attention", "feed_forward")
COSTS = ("parameters", "encoder_parameters", "size_bytes", "macs_per_sample")
SHOWN = ("command", "processor", "system", "python", "commit")


def check_results(data: Any) -> None:
    """Raise unless this is the content of a results.json.

    Example:
        >>> side = {"metrics": {"accuracy": 0.8}, "parameters": 100}
        >>> check_results({"seed": 0, "baseline": side, "axformer": {**side, "metrics": {}}})
        Traceback (most recent call last):
        ValueError: Expected axformer.metrics to hold the metrics of baseline, ['accuracy'], got [].
    """
    results = _mapping(data, "results")
    if results.get("seed") is not None:
        read_count(results["seed"], "seed")
    for side in ("baseline", "axformer"):
        part = _mapping(results.get(side), side)
        _metrics(part.get("metrics"), f"{side}.metrics")
        costs = {name: part[name] for name in COSTS if part.get(name) is not None}
        _numbers(costs if side == "baseline" else _where_something_is_left(costs, "encoder_parameters"), side, above=0)
        _numbers(_given(part, "latency_ms", {}), f"{side}.latency_ms", above=0)
    names, others = (sorted(results[side]["metrics"]) for side in ("baseline", "axformer"))
    if not names or names != others:
        raise ValueError(f"Expected axformer.metrics to hold the metrics of baseline, {names}, got {others}.")
    _numbers(_given(results, "search", {}), "search")
    for name, part in _mapping(_given(results, "models", {}), "models").items():
        timed = _given(_mapping(part, f"models.{name}"), "latency_ms", {})
        _numbers(timed, f"models.{name}.latency_ms", above=0)


def check_points(data: Any) -> None:
    """Raise unless this is the content of a pareto.json."""
    for i, item in enumerate(read_list(data, "points")):
        point = _mapping(item, f"points[{i}]")
        if "artifact" in point:
            read_typed(point["artifact"], str, f"points[{i}].artifact")
            sizes = {name: point.get(name) for name in ("encoder_size", "file_size")}
            _numbers(_where_something_is_left(sizes, "encoder_size"), f"points[{i}]", above=0)
            _metrics(point.get("metrics"), f"points[{i}].metrics")


def check_damage(data: Any) -> None:
    """Raise unless this is the content of a damage.json."""
    for i, table in enumerate(read_list(data, "damage")):
        for j, item in enumerate(read_list(table, f"damage[{i}]")):
            where = f"damage[{i}][{j}]"
            row = _mapping(item, where)
            read_count(row.get("layer"), f"{where}.layer")
            if row.get("block") not in BLOCKS:
                raise ValueError(f"Expected {where}.block to be one of {BLOCKS}, got {row.get('block')!r}.")
            widths, lost = (read_list(row.get(name), f"{where}.{name}") for name in ("widths", "damage"))
            if not widths or len(widths) != len(lost):
                raise ValueError(f"Expected a damage for each of {len(widths)} widths of {where}, got {len(lost)}.")
            for width, value in zip(widths, lost, strict=True):
                read_count(0 if width is None else width, f"{where}.widths")
                if abs(read_number(value, f"{where}.damage")) > MOST_DAMAGE:
                    most = f"{MOST_DAMAGE:g}"
                    raise ValueError(f"Expected {where}.damage between -{most} and {most}, got {value}.")


def check_environment(data: Any) -> None:
    """Raise unless this is the content of an environment.json."""
    kept = _mapping(data, "environment")
    _numbers(_given(kept, "seconds", {}), "seconds")
    _mapping(_given(kept, "packages", {}), "packages")
    for name in SHOWN:
        read_typed(_given(kept, name, ""), str, name)
    for gpu in read_list(_given(kept, "gpus", []), "gpus"):
        read_typed(gpu, str, "gpus")
    read_number(_given(kept, "memory_bytes", 0), "memory_bytes")


def check_configuration(data: Any) -> None:
    """Raise unless this can be the configuration of a run."""
    config = _mapping(data, "the configuration")
    for name in ("task", "model", "pruning"):
        _mapping(_given(config, name, {}), name)
    if config.get("seed") is not None:
        read_count(config["seed"], "seed")
    for ratio in read_list(_given(config.get("pruning") or {}, "ratios", []), "pruning.ratios"):
        read_number(ratio, "pruning.ratios")


def check_run(data: Any) -> None:
    """Raise unless this is the record that a run can be resumed by."""
    kept = _mapping(data, "the record")
    read_typed(kept.get("finished"), bool, "finished")
    check_configuration(kept.get("configuration"))


def check_list(data: Any) -> None:
    """Raise unless this is a list."""
    read_list(data, "the file")


def check_state(data: Any) -> None:
    """Raise unless this says the state of a run."""
    said = _mapping(data, "state")
    read_typed(said.get("state"), str, "state")
    read_typed(_given(said, "reason", ""), str, "reason")


def _given(data: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return an entry, or the default where it is missing or null."""
    return default if data.get(name) is None else data[name]


def _mapping(data: Any, where: str) -> Any:
    return read_typed(data, dict, where)


def _where_something_is_left(sizes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the sizes without that of an encoder of which nothing is left: it is 0 where norms go with blocks."""
    return {one: value for one, value in sizes.items() if one != name or value != 0}


def _metrics(data: Any, where: str) -> None:
    """Raise unless these are metrics: numbers, and null where a model has diverged."""
    _numbers({name: value for name, value in _mapping(data, where).items() if value is not None}, where)


def _numbers(data: Any, where: str, *, above: float | None = None) -> None:
    for name, value in _mapping(data, where).items():
        if read_number(value, f"{where}.{name}") <= (float("-inf") if above is None else above):
            raise ValueError(f"Expected {where}.{name} to be above {above}, got {value}.")


Check = Callable[[Any], None]
CHECKS: Mapping[str, Check] = {
    "results.json": check_results,
    "pareto.json": check_points,
    "damage.json": check_damage,
    "environment.json": check_environment,
    "state.json": check_state,
}
