"""The plan and its JSON."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axformer_lightning.anatomy import Anatomy, LayerPlan
from axformer_lightning.basics.files import write_atomically
from axformer_lightning.basics.reading import names_of, read_count, read_fields, read_json, read_list, read_typed
from axformer_lightning.plan.entries import Decision, check_decision, check_int8, check_layer, read_decision, read_layer
from axformer_lightning.plan.versions import FORMAT, VERSION, upgraded


@dataclass(frozen=True)
class Plan:
    """What is left of a model, and every decision that led there.

    Args:
        model_type: family of the model.
        num_layers: layers of the original model.
        num_heads: heads of each of its layers.
        intermediate_size: intermediate neurons of each of its layers.
        layers: what is left of each layer.
        decisions: in the order tried, over all rounds.
        repaired: whether what is left of the model has other weights than the original ones: the plan alone does
            not give it.

    Raises:
        ValueError: if the parts do not fit each other; the message names the offending entry.

    Example:
        >>> plan = Plan("bert", 1, 4, 64, (LayerPlan(heads_removed=(3,)),))
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    model_type: str
    num_layers: int
    num_heads: int
    intermediate_size: int
    layers: tuple[LayerPlan, ...]
    decisions: tuple[Decision, ...] = ()
    repaired: bool = False

    def __post_init__(self) -> None:
        if len(self.layers) != self.num_layers:
            raise ValueError(f"Expected {self.num_layers} entries in `layers`, got {len(self.layers)}.")
        for i, layer in enumerate(self.layers):
            check_layer(layer, f"layers[{i}]", self.num_heads, self.intermediate_size)
            check_int8(layer, f"layers[{i}]", is_first=i == 0)
        for i, decision in enumerate(self.decisions):
            check_decision(decision, f"decisions[{i}]", self.num_layers, self.num_heads, self.intermediate_size)

    @classmethod
    def dense(cls, anatomy: Anatomy) -> "Plan":
        """Return the plan that removes nothing."""
        return cls(
            anatomy.model_type,
            anatomy.num_layers,
            anatomy.num_heads,
            anatomy.intermediate_size,
            anatomy.dense_layers(),
        )

    @property
    def removes_nothing(self) -> bool:
        """Tell whether no weight is removed; hard attention may be on, and blocks in int8."""
        return all(
            layer.attention == "kept" == layer.feed_forward and not layer.heads_removed + layer.neurons_removed
            for layer in self.layers
        )

    def removes_all_of(self, other: "Plan") -> bool:
        """Tell whether this plan can follow ``other`` on the same model, as it keeps nothing that ``other`` removes."""
        return all(
            set(mine.kept_heads(self.num_heads)) <= set(theirs.kept_heads(self.num_heads))
            and set(mine.kept_neurons(self.intermediate_size)) <= set(theirs.kept_neurons(self.intermediate_size))
            and (theirs.attention == "kept" or mine.attention == "removed")
            and (theirs.feed_forward == "kept" or mine.feed_forward == "removed")
            for mine, theirs in zip(self.layers, other.layers, strict=True)
        )

    def check_fits(self, anatomy: Anatomy) -> None:
        """Raise unless this plan was made for a model of that anatomy.

        Raises:
            ValueError: naming what differs.
        """
        for name in ("model_type", "num_layers", "num_heads", "intermediate_size"):
            if getattr(self, name) != getattr(anatomy, name):
                raise ValueError(
                    f"Expected a plan for a model with {name} {getattr(anatomy, name)!r}, got one for"
                    f" {getattr(self, name)!r}. Use the plan with the model that it was made from."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain types, as written to JSON."""
        return {"format": FORMAT, "version": VERSION, **_plain(dataclasses.asdict(self))}

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: object) -> "Plan":
        """Return the plan that :meth:`to_dict` described, in this version or an earlier one.

        Raises:
            ValueError: if format, version, a field, a type or a range is not as expected.
        """
        names = {"format", "version", *names_of(cls)}
        top = read_fields(upgraded(read_fields(data, "the plan", names, {"repaired"})), "the plan", names)
        return cls(
            model_type=read_typed(top["model_type"], str, "model_type"),
            num_layers=read_count(top["num_layers"], "num_layers", 1),
            num_heads=read_count(top["num_heads"], "num_heads", 1),
            intermediate_size=read_count(top["intermediate_size"], "intermediate_size", 1),
            layers=tuple(read_layer(item, f"layers[{i}]") for i, item in enumerate(read_list(top["layers"], "layers"))),
            decisions=tuple(
                read_decision(item, f"decisions[{i}]")
                for i, item in enumerate(read_list(top["decisions"], "decisions"))
            ),
            repaired=read_typed(top["repaired"], bool, "repaired"),
        )

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan in ``text``.

        Raises:
            ValueError: if the text is not JSON, or not a plan.
        """
        try:
            data = read_json(text)
        except ValueError as error:
            raise ValueError(f"Expected the JSON text of a plan: {error}") from None
        return cls.from_dict(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to ``path``, wholly or not at all."""
        write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Read a plan from ``path``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold a plan; the file is named.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (ValueError, IsADirectoryError) as error:
            raise ValueError(f"Cannot read the plan {os.fspath(path)!r}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
