"""A removed block whose mean was folded away equals one that gives its mean: every family, as far as it has a place."""

from functools import partial
from itertools import product

import pytest
import torch

from axformer_lightning.anatomy import LayerPlan, anatomy_of
from axformer_lightning.gates import closed
from axformer_lightning.repair import repaired_as

KINDS = ("attention", "feed_forward")
EVERYTHING = tuple(product(range(3), KINDS))
REMOVED = [*((block,) for block in EVERYTHING), EVERYTHING[1:4], EVERYTHING[:3], EVERYTHING]
WIDE = {"local_attention": 64}  # nobody sees padding alone, of which float64 makes NaN
# Each family, and the configurations of it that differ here; and which removed blocks' means have no place.
VARIANTS = {
    **{
        name: (name, {}, lambda removed: set())
        for name in ("bert", "electra", "distilbert", "mpnet", "deberta-v2", "albert", "vit")
    },
    "electra, wide embeddings": ("electra", {"embedding_size": 32}, lambda removed: set()),
    "deberta-v2, convolution": (
        "deberta-v2",
        {"conv_kernel_size": 3},
        lambda removed: {(0, "attention"), (1, "attention")} & removed,
    ),
    "modernbert": ("modernbert", WIDE | {"norm_bias": True}, lambda removed: set()),
    "modernbert, no bias in norms": (
        "modernbert",
        WIDE,
        lambda removed: {block for at, block in enumerate(EVERYTHING) if set(EVERYTHING[: at + 1]) <= removed},
    ),
    "modernbert, no biases": (
        "modernbert",
        WIDE | {"attention_bias": False, "mlp_bias": False},
        lambda removed: removed,
    ),
    "albert, one layer for all": (
        "albert",
        {"num_hidden_layers": 2, "num_hidden_groups": 1},
        lambda removed: {(0, "attention")} & removed,
    ),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture
def family(variant):
    return variant[0]


@pytest.fixture
def model(tiny, variant):
    return tiny.model(variant[0], **variant[1]).double()


@pytest.fixture
def batch(batch):
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def without(blocks, num_layers):
    states = [{kind: "removed" for kind in KINDS if (i, kind) in blocks} for i in range(num_layers)]
    return tuple(LayerPlan(**state) for state in states)


def constant(mean_O, module, args, output):
    return mean_O.expand_as(output)


def test_a_removed_block_whose_mean_is_folded_equals_a_constant_one(model, batch, logits, measured, variant):
    anatomy, moments = anatomy_of(model), measured(model)
    projections = dict(zip(KINDS, (block.out_projection for block in anatomy.blocks), strict=True))
    for blocks in REMOVED:
        removed = {block for block in blocks if block[0] < anatomy.num_layers}
        layers = without(removed, anatomy.num_layers)
        with repaired_as(model, layers, moments) as repair:
            found = logits(model, batch)
        assert set(repair.means_lost) == variant[2](removed), blocks
        hooks = []
        for i, kind in removed:
            linear = model.get_submodule(anatomy.name(i, projections[kind]))
            mean_O = moments.of(i, kind).mean_output(linear.weight, linear.bias)
            is_kept = (i, kind) not in variant[2](removed)
            hooks.append(linear.register_forward_hook(partial(constant, mean_O * is_kept)))
        torch.testing.assert_close(logits(model, batch), found, rtol=1e-6, atol=1e-6, msg=str(blocks))
        for hook in hooks:
            hook.remove()


def test_without_means_removed_blocks_are_as_without_a_repair(model, batch, logits, measured):
    num_layers = anatomy_of(model).num_layers
    layers = without(EVERYTHING[1:4], num_layers)
    with repaired_as(model, layers, measured(model), means=False) as repair:
        found = logits(model, batch)
    with closed(model, layers):
        assert torch.equal(logits(model, batch), found)
    assert (repair.values, set(repair.means_lost)) == (
        {},
        {block for block in EVERYTHING[1:4] if block[0] < num_layers},
    )


def test_the_mean_is_heard(model, batch, logits, measured, variant):
    layers = without({(0, "feed_forward")}, anatomy_of(model).num_layers)
    with repaired_as(model, layers, measured(model)):
        found = logits(model, batch)
    moments = measured(model)
    moments.of(0, "feed_forward").sums_MM[-1, :-1] += 10
    with repaired_as(model, layers, moments):
        heard = (logits(model, batch) - found).abs().max() > 1e-3
    assert heard == (not variant[2]({(0, "feed_forward")}))
