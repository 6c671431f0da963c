"""Which entries of each parameter stay between two cuts of a model."""

from collections.abc import Iterator, Mapping, Sequence

from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan, anatomy_of

Positions = Mapping[int, list[int]]  # dimension -> the entries along it that are kept


def kept_positions(
    model: PreTrainedModel, before: Sequence[LayerPlan], after: Sequence[LayerPlan]
) -> dict[str, Positions | None]:
    """Return, for every parameter that differs between two cuts of ``model``, which of its entries stay.

    Args:
        model: gives the names; as ``before`` or as ``after`` describes it.
        before: what is left of each layer in the one.
        after: what is left of each layer in the other.

    Returns:
        For each parameter's name the kept entries by dimension, or None where the parameter goes. Parameters that
        ``model`` has no longer are left out.

    Raises:
        ValueError: if ``after`` holds what ``before`` lacks.
    """
    anatomy = anatomy_of(model)
    positions: dict[str, Positions | None] = {}
    for i, (now, wanted) in enumerate(zip(before, after, strict=True)):
        positions.update(_positions_of_layer(model, anatomy, i, now, wanted))
    return positions


def _positions_of_layer(
    model: PreTrainedModel, anatomy: Anatomy, i: int, now: LayerPlan, wanted: LayerPlan
) -> Iterator[tuple[str, Positions | None]]:
    for block in anatomy.blocks:
        had, wants = block.left(now), block.left(wanted)
        if block.keeps_more(wanted, now):
            raise ValueError(
                f"Expected a plan that removes at least what is cut already, but layers[{i}] keeps more of its"
                f" {block.kind} block than the model has. Apply the plan to the original model."
            )
        if had is None or had == wants:
            continue
        gone = tuple(block.modules) if wants is None else () if wants else block.without_units
        for part in gone:
            name = anatomy.name(i, part)
            yield from ((f"{name}.{own}", None) for own, _ in model.get_submodule(name).named_parameters())
        if wants is None:
            continue
        kept = block.features(wants, had)
        for name_in_layer, fused in in_projections_of(model, anatomy, i, block).items():
            if name_in_layer.startswith(gone):
                continue
            name = anatomy.name(i, name_in_layer)
            rows = [part * len(had) * block.width + row for part in range(fused) for row in kept]
            yield from ((f"{name}.{own}", {0: rows}) for own, _ in model.get_submodule(name).named_parameters())
        yield f"{anatomy.name(i, block.out_projection)}.weight", {1: kept}


def in_projections_of(model: PreTrainedModel, anatomy: Anatomy, i: int, block: Block) -> dict[str, int]:
    """Return the in-projections that a layer of this very model has."""
    parts = {name for name, _ in model.get_submodule(anatomy.layers[i]).named_modules()}
    return {name: fused for name, fused in block.in_projections.items() if name in parts or name not in block.optional}
