"""What a command line sweeps over, as a sampler is asked for it."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

Question = tuple[str, dict[str, Any]]  # a method of a trial of optuna, and its arguments but for the name
NUMBERS = {int: "suggest_int", float: "suggest_float"}


def space_of(arguments: Sequence[str], loader: Any = None) -> tuple[list[str], dict[str, Question]]:
    """Return the overrides that are the same for all trials, and what is asked for each that is not.

    Args:
        arguments: overrides in Hydra's grammar; `x=a,b`, `range`, `interval` and `tag(log, interval(..))` sweep.
        loader: Hydra's, which knows what `glob` finds.

    Raises:
        ValueError: if a setting has no value, as in an empty range.

    Example:
        >>> fixed, space = space_of(["seed=0", "pruning.tolerance=interval(0, 0.2)", "model=tiny,minilm"])
        >>> fixed
        ['seed=0']
        >>> space["pruning.tolerance"]
        ('suggest_float', {'low': 0.0, 'high': 0.2, 'log': False})
        >>> space["model"]
        ('suggest_categorical', {'choices': ['tiny', 'minilm']})
    """
    fixed, space = [], {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        if override.is_sweep_override():
            space[override.get_key_element()] = _question(override)
        else:
            fixed.append(str(override.input_line))
    return fixed, space


def _question(override: Override) -> Question:
    value = override.value()
    if isinstance(value, IntervalSweep):
        kind = type(value.start)
        return NUMBERS[kind], {"low": value.start, "high": value.end, "log": "log" in value.tags}
    choices = list(override.sweep_string_iterator())
    if not choices:
        raise ValueError(f"Expected a setting with values to choose from, got none in {override.input_line!r}.")
    if isinstance(value, RangeSweep) and not value.shuffle:
        found: list[Any] = sorted(override.sweep_iterator())
        return NUMBERS[type(found[0])], {"low": found[0], "high": found[-1], "step": abs(value.step)}
    return "suggest_categorical", {"choices": choices}
