"""Names and numbers of one model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy.blocks import Block
from axformer_lightning.anatomy.configs import check_config
from axformer_lightning.anatomy.families import FAMILIES, Family
from axformer_lightning.anatomy.layers import LayerPlan

ORIGINAL = "axformer_original"  # where a model that was cut keeps empty copies of its layers


@dataclass(frozen=True)
class Anatomy:
    """Names and numbers of one model before any cut.

    Args:
        model_type: ``config.model_type``, the key of its family.
        family: the row of :data:`FAMILIES`.
        layers: dotted names of its transformer layers, relative to the model, from input to output. A layer that is
            applied several times is named once.
        num_heads: heads of a layer.
        head_size: features of a head.
        intermediate_size: intermediate neurons of a layer.
        relative_positions: rows of relative positions that a head projects and compares with the tokens, counted
            once for each direction in which it does so; 0 in most families.
    """

    model_type: str
    family: Family
    layers: tuple[str, ...]
    num_heads: int
    head_size: int
    intermediate_size: int
    relative_positions: int = 0

    @property
    def num_layers(self) -> int:
        """How many transformer layers have weights of their own."""
        return len(self.layers)

    @property
    def blocks(self) -> tuple[Block, Block]:
        """The attention and the feed-forward block of every layer."""
        family = self.family
        projections = (*family.head_in_projections, *family.optional_in_projections)
        return (
            Block(
                kind="attention",
                num_units=self.num_heads,
                width=self.head_size,
                in_projections={name: family.fused.get(name, 1) for name in projections},
                optional=family.optional_in_projections,
                out_projection=family.head_out_projection,
                modules=family.attention_modules,
                without_units=family.without_heads,
            ),
            Block(
                kind="feed_forward",
                num_units=self.intermediate_size,
                width=1,
                in_projections={name: family.fused.get(name, 1) for name in family.neuron_in_projections},
                optional=(),
                out_projection=family.neuron_out_projection,
                modules=family.feed_forward_modules,
                without_units=(),
            ),
        )

    def block(self, kind: str) -> Block:
        """Return the block of a kind.

        Raises:
            ValueError: if there is no such kind.
        """
        by_kind: dict[str, Block] = {block.kind: block for block in self.blocks}
        if kind not in by_kind:
            raise ValueError(f"Expected a block of one of the kinds {list(by_kind)}, got {kind!r}.")
        return by_kind[kind]

    def name(self, layer: int, part: str) -> str:
        """Return the dotted name of a ``part`` of a layer, relative to the model.

        Example:
            >>> from axformer_lightning.anatomy import BERT
            >>> anatomy = Anatomy("bert", BERT, ("encoder.layer.0", "encoder.layer.1"), 4, 8, 64)
            >>> anatomy.name(1, BERT.head_out_projection)
            'encoder.layer.1.attention.output.dense'
        """
        return f"{self.layers[layer]}.{part}"

    def dense_layers(self) -> tuple[LayerPlan, ...]:
        """Return the layers of a plan with nothing removed."""
        return (LayerPlan(),) * self.num_layers


def anatomy_of(model: PreTrainedModel) -> Anatomy:
    """Return the names and numbers of ``model``, cut or not.

    Raises:
        ValueError: if the family is unknown, its row names what the model or its config does not have, the model is or
            has a decoder or several heads that share keys, or its config has ``pruned_heads``, which transformers 5
            ignores, or ``chunk_size_feed_forward``.
    """
    config = model.config
    if config.model_type.endswith("encoder-decoder"):  # two models of other families, held together
        raise ValueError(
            f"Expected an encoder, got a {config.model_type!r} model, which has a decoder, too. Name its encoder in a"
            ' callback, for example `model="net.encoder"`; a function takes `model.encoder` in a module of its own.'
        )
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ValueError(
            f"Expected a model of one of the families {sorted(FAMILIES)}, got model_type {config.model_type!r}."
            " Add its row with `axformer_lightning.register_family(model_type, axformer_lightning.Family(...))`."
        )
    check_config(config, family)
    prefix = model.base_model_prefix
    inside = f"{prefix}." if prefix and hasattr(model, prefix) else ""
    try:
        layers = tuple(_layer_names(model, inside + family.layers))
    except AttributeError as error:
        raise ValueError(
            f"Expected the layers of a {config.model_type!r} model at {family.layers!r}: {error}"
        ) from None
    anatomy = Anatomy(
        model_type=config.model_type,
        family=family,
        layers=layers,
        num_heads=config.num_attention_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        intermediate_size=getattr(config, family.intermediate_size),
        relative_positions=_relative_positions(model, inside, family),
    )
    if getattr(model, "axformer_plan", None) is None:  # a cut model lacks parts, and its row was checked before
        _check_names(model, anatomy)
    return anatomy


def _check_names(model: nn.Module, anatomy: Anatomy) -> None:
    """Refuse a row that names modules that the model does not have."""
    family = anatomy.family
    names = {family.self_attention, *family.without_heads, *(family.post_norms or ())} | (
        {family.attention_dropout, family.after_attention} - {None}
    )
    for block in anatomy.blocks:
        names |= {*block.in_projections, block.out_projection, *block.modules} - {*block.optional}
    for layer in anatomy.layers:
        module = model.get_submodule(layer)
        if missing := sorted(name for name in names if name and not _has(module, name)):
            raise ValueError(
                f"Expected the modules {missing} in {layer!r} of a {anatomy.model_type!r} model, as the row of its"
                " family names them, but they are missing. Fix the row, or undo what replaced them."
            )


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True


def _relative_positions(model: PreTrainedModel, inside: str, family: Family) -> int:
    if family.relative_positions is None:
        return 0
    table, directions = family.relative_positions
    if not _has(model, inside + table):
        return 0
    rows = model.get_parameter(f"{inside}{table}.weight").shape[0]
    return rows * len(set(getattr(model.config, directions) or ()))


def _layer_names(model: nn.Module, pattern: str) -> Iterator[str]:
    outer, star, inner = pattern.partition(".*.")
    for index, _ in model.get_submodule(outer).named_children():
        name = f"{outer}.{index}"
        if star:
            yield from _layer_names(model, f"{name}.{inner}")
        else:
            yield name


def layer_modules(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Return the transformer layers of ``model``, from input to output."""
    return [model.get_submodule(name) for name in anatomy_of(model).layers]


def original_layers(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Return the layers of ``model`` as they were before any cut; those of a cut model have no weights."""
    return getattr(model, ORIGINAL, None) or layer_modules(model)


def layers_left(model: PreTrainedModel) -> tuple[LayerPlan, ...]:
    """Return what is left of each layer of ``model``: everything, unless a plan has been applied to it."""
    plan = getattr(model, "axformer_plan", None)
    return anatomy_of(model).dense_layers() if plan is None else plan.layers


def find_transformer(module: nn.Module, name: str | None = None) -> PreTrainedModel:
    """Return the Hugging Face model inside ``module``, whatever its attribute is called.

    Args:
        module: a Hugging Face model, or a module that holds one.
        name: dotted attribute path, needed where ``module`` holds several.

    Raises:
        ValueError: if there is none, or several and no ``name``.
        TypeError: if ``name`` leads to something else.
    """
    if name is not None:
        try:
            found = module.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"Expected {type(module).__name__} to hold a module named {name!r}: {error}.") from None
        found = getattr(found, "_orig_mod", found)
        if not isinstance(found, PreTrainedModel):
            raise TypeError(f"Expected a Hugging Face model at {name!r}, got {type(found).__name__}.")
        return found
    models = {path: child for path, child in module.named_modules() if isinstance(child, PreTrainedModel)}
    outermost = [path for path in models if not any(_is_inside(path, other) for other in models)]
    if not outermost:
        raise ValueError(
            f"Expected {type(module).__name__} to hold a Hugging Face model, found none. Keep a"
            " `transformers.PreTrainedModel` as an attribute of the module."
        )
    if len(outermost) > 1:
        raise ValueError(
            f"Expected one Hugging Face model in {type(module).__name__}, found {outermost}."
            f' Name the one to prune: `model="{outermost[0]}"` in a callback; pass that model itself to a function.'
        )
    return models[outermost[0]]


def _is_inside(path: str, other: str) -> bool:
    return path != other and (other == "" or path.startswith(f"{other}."))
