"""The plan and its JSON."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from axformer_lightning.anatomy import Anatomy, HardAttention, LayerPlan
from axformer_lightning.plan.files import write_atomically
from axformer_lightning.plan.reading import (
    names_of,
    read_count,
    read_fields,
    read_list,
    read_number,
    read_typed,
    refuse_constant,
)
from axformer_lightning.search import Kind

FORMAT = "axformer-plan"
VERSION = 1


@dataclass(frozen=True)
class Decision:
    """One candidate and what became of it.

    Args:
        round: round of search, from 1.
        kind: what was tried.
        layer: index of the layer.
        index: head or neuron group, None for whole blocks and hard attention.
        loss: mean loss on the search set, None if the candidate was stopped early.
        share_not_worse: share of samples with a loss not above the fine-tuned model's, None if stopped early.
        best_before: mean loss of the model with everything accepted before.
        accepted: the decision.
        samples_seen: samples evaluated.
    """

    round: int
    kind: Kind
    layer: int
    index: int | None
    loss: float | None
    share_not_worse: float | None
    best_before: float
    accepted: bool
    samples_seen: int


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

    def __post_init__(self) -> None:
        if len(self.layers) != self.num_layers:
            raise ValueError(f"Expected {self.num_layers} entries in `layers`, got {len(self.layers)}.")
        for i, layer in enumerate(self.layers):
            _check_layer(layer, f"layers[{i}]", self.num_heads, self.intermediate_size)
        for i, decision in enumerate(self.decisions):
            if not 0 <= decision.layer < self.num_layers:
                raise ValueError(f"Expected decisions[{i}] in layers 0..{self.num_layers - 1}, got {decision.layer}.")

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
        """Tell whether no weight is removed; hard attention may be on."""
        return all(layer == LayerPlan(hard_attention=layer.hard_attention) for layer in self.layers)

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
        """Return the plan that :meth:`to_dict` described.

        Raises:
            ValueError: if format, version, a field, a type or a range is not as expected.
        """
        top = read_fields(data, "the plan", {"format", "version", *names_of(cls)})
        if top["format"] != FORMAT:
            raise ValueError(f"Expected `format` {FORMAT!r}, got {top['format']!r}.")
        if top["version"] != VERSION or isinstance(top["version"], bool):
            raise ValueError(
                f"Expected a plan of version {VERSION}, got {top['version']!r}. Update axformer-lightning to read it."
            )
        return cls(
            model_type=read_typed(top["model_type"], str, "model_type"),
            num_layers=read_count(top["num_layers"], "num_layers", 1),
            num_heads=read_count(top["num_heads"], "num_heads", 1),
            intermediate_size=read_count(top["intermediate_size"], "intermediate_size", 1),
            layers=tuple(_layer(item, f"layers[{i}]") for i, item in enumerate(read_list(top["layers"], "layers"))),
            decisions=tuple(
                _decision(item, f"decisions[{i}]") for i, item in enumerate(read_list(top["decisions"], "decisions"))
            ),
        )

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan in ``text``.

        Raises:
            ValueError: if the text is not JSON, or not a plan.
        """
        try:
            data = json.loads(text, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
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
        except ValueError as error:
            raise ValueError(f"Cannot read the plan {os.fspath(path)!r}: {error}") from error


def _check_layer(layer: LayerPlan, where: str, num_heads: int, intermediate_size: int) -> None:
    for state, parts, names in (
        (layer.attention, layer.heads_removed, ("attention", "heads_removed")),
        (layer.feed_forward, layer.neurons_removed, ("feed_forward", "neurons_removed")),
    ):
        if state not in ("kept", "removed"):
            raise ValueError(f"Expected {where}.{names[0]} to be 'kept' or 'removed', got {state!r}.")
        if state == "removed" and parts:
            raise ValueError(f"Expected {where}.{names[1]} to be empty where the block is removed, got {list(parts)}.")
    heads = list(layer.heads_removed)
    if heads != sorted(set(heads)) or not all(0 <= head < num_heads for head in heads):
        raise ValueError(
            f"Expected {where}.heads_removed to be ascending, different heads of 0..{num_heads - 1}, got {heads}."
        )
    last = 0
    for start, stop in layer.neurons_removed:
        if not last <= start < stop <= intermediate_size:
            raise ValueError(
                f"Expected {where}.neurons_removed to be ascending ranges of 0..{intermediate_size} that do not"
                f" overlap, got {[list(pair) for pair in layer.neurons_removed]}."
            )
        last = stop


def _layer(data: object, where: str) -> LayerPlan:
    item = read_fields(data, where, names_of(LayerPlan))
    hard = item["hard_attention"]
    if hard is not None:
        values = read_fields(hard, f"{where}.hard_attention", names_of(HardAttention))
        hard = HardAttention(
            read_count(values["k"], f"{where}.hard_attention.k", 1),
            read_typed(values["renormalize"], bool, f"{where}.hard_attention.renormalize"),
        )
    heads, neurons = f"{where}.heads_removed", f"{where}.neurons_removed"
    ranges = []
    for pair in read_list(item["neurons_removed"], neurons):
        if len(read_list(pair, neurons)) != 2:
            raise ValueError(f"Expected {neurons} to hold pairs [start, stop], got {pair!r}.")
        ranges.append((read_count(pair[0], neurons), read_count(pair[1], neurons)))
    return LayerPlan(
        attention=item["attention"],
        heads_removed=tuple(read_count(head, heads) for head in read_list(item["heads_removed"], heads)),
        feed_forward=item["feed_forward"],
        neurons_removed=tuple(ranges),
        hard_attention=hard,
    )


def _decision(data: object, where: str) -> Decision:
    item = read_fields(data, where, names_of(Decision))
    if item["kind"] not in get_args(Kind):
        raise ValueError(f"Expected {where}.kind to be one of {list(get_args(Kind))}, got {item['kind']!r}.")
    return Decision(
        round=read_count(item["round"], f"{where}.round", 1),
        kind=item["kind"],
        layer=read_count(item["layer"], f"{where}.layer"),
        index=None if item["index"] is None else read_count(item["index"], f"{where}.index"),
        loss=None if item["loss"] is None else read_number(item["loss"], f"{where}.loss"),
        share_not_worse=(
            None
            if item["share_not_worse"] is None
            else read_number(item["share_not_worse"], f"{where}.share_not_worse")
        ),
        best_before=read_number(item["best_before"], f"{where}.best_before"),
        accepted=read_typed(item["accepted"], bool, f"{where}.accepted"),
        samples_seen=read_count(item["samples_seen"], f"{where}.samples_seen"),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
