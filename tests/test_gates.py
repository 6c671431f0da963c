from dataclasses import replace

import pytest
import torch

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.gates import Removed, closed
from axformer_lightning.hard_attention import attending
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

DENSE = (LayerPlan(),) * 3
ALL_HEADS = (0, 1, 2, 3)
LAYERS = {
    "attention block": (LayerPlan(), LayerPlan().without_attention(), LayerPlan()),
    "first attention block": (LayerPlan().without_attention(), LayerPlan(), LayerPlan()),
    "feed-forward block": (LayerPlan(), LayerPlan(), LayerPlan().without_feed_forward()),
    "heads": (LayerPlan(heads_removed=(1, 2)), LayerPlan(), LayerPlan(heads_removed=(3,))),
    "all heads": (LayerPlan(), LayerPlan(heads_removed=ALL_HEADS), LayerPlan()),
    "neurons": (LayerPlan(), LayerPlan(neurons_removed=((0, 5), (40, 48))), LayerPlan()),
    "all neurons": (LayerPlan(neurons_removed=((0, 48),)), LayerPlan(), LayerPlan()),
    "hard attention": (LayerPlan(hard_attention=HardAttention(2)), LayerPlan(), LayerPlan()),
    "renormalised hard attention": (LayerPlan(), LayerPlan(hard_attention=HardAttention(2, True)), LayerPlan()),
    "everything": (LayerPlan("removed", (), "removed"),) * 3,
    "mixed": (
        LayerPlan("kept", (0, 2), "kept", ((8, 24),), HardAttention(3)),
        LayerPlan("removed", (), "kept", ((0, 48),), HardAttention(3)),
        LayerPlan("kept", ALL_HEADS, "removed", (), HardAttention(2, True)),
    ),
}
FIRST_CUT = (
    LayerPlan("kept", (2,), "kept", ((8, 12),)),
    LayerPlan("kept", (0,), "kept", ((0, 24),), HardAttention(3)),
    LayerPlan("kept", (1, 3), "removed"),
)


def plan_of(model, layers):
    return Plan(model.config.model_type, 3, 4, 48, tuple(layers))


def zero_columns(linear, columns):
    with torch.no_grad():
        linear.weight[:, columns] = 0


def silence(linear):
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()


def run_gated(logits, model, batch, layers, before=DENSE):
    with closed(model, layers), attending(model, layers, before):
        return logits(model, batch)


@pytest.mark.one_implementation
def test_open_gates_change_nothing(model, batch, logits):
    expected = logits(model, batch)
    assert torch.equal(run_gated(logits, model, batch, DENSE), expected)


@pytest.mark.one_implementation
@pytest.mark.parametrize("layer", [0, 2])
def test_closed_heads_equal_zeroed_columns_of_the_writer(model, batch, logits, part, layer):
    gated = run_gated(
        logits, model, batch, [replace(p, heads_removed=(1,) * (i == layer)) for i, p in enumerate(DENSE)]
    )
    zero_columns(part(model, layer, "attention"), range(8, 16))
    torch.testing.assert_close(gated, logits(model, batch))


@pytest.mark.one_implementation
@pytest.mark.parametrize("span", [(0, 1), (5, 17), (40, 48), (0, 48)])
def test_a_closed_neuron_range_equals_zeroed_columns_of_the_writer(model, batch, logits, part, span):
    gated = run_gated(logits, model, batch, (LayerPlan(), LayerPlan(neurons_removed=(span,)), LayerPlan()))
    zero_columns(part(model, 1, "feed_forward"), range(*span))
    torch.testing.assert_close(gated, logits(model, batch))


@pytest.mark.one_implementation
@pytest.mark.parametrize("block", ["attention", "feed_forward"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_closed_block_leaves_the_norm_of_its_input(model, batch, logits, part, block, layer):
    gated = run_gated(logits, model, batch, [LayerPlan(**({block: "removed"} if i == layer else {})) for i in range(3)])
    silence(part(model, layer, block))
    torch.testing.assert_close(gated, logits(model, batch))


@pytest.mark.one_family  # anatomy/test_families.py listens to every family
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_closing_is_heard(model, batch, logits, layers):
    assert (run_gated(logits, model, batch, layers) - logits(model, batch)).abs().max() > 1e-2


@pytest.mark.every_family
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_gated_equals_cut(model, batch, logits, layers):
    gated = run_gated(logits, model, batch, layers)
    torch.testing.assert_close(logits(apply_plan_(model, plan_of(model, layers)), batch), gated)


@pytest.mark.one_implementation
@pytest.mark.parametrize("block", ["attention", "feed_forward"])
def test_a_block_without_units_is_not_a_removed_block(model, batch, logits, block):
    empty = {"attention": LAYERS["all heads"], "feed_forward": LAYERS["all neurons"]}[block]
    removed = [LayerPlan(**{block: "removed"}) if plan != LayerPlan() else plan for plan in empty]
    gated = run_gated(logits, model, batch, empty)
    assert (run_gated(logits, model, batch, removed) - gated).abs().max() > 1e-2


@pytest.fixture(params=["mixed", "everything"])
def further(request):
    """A plan that removes more than ``FIRST_CUT``."""
    both = zip(FIRST_CUT, LAYERS[request.param], strict=True)
    return tuple(_together(first, then) for first, then in both)


def _together(first, then):
    heads = () if then.attention == "removed" else tuple(sorted({*first.heads_removed, *then.heads_removed}))
    feed_forward = "removed" if "removed" in (first.feed_forward, then.feed_forward) else "kept"
    layer = LayerPlan(then.attention, heads, feed_forward, (), then.hard_attention)
    for span in (*first.neurons_removed, *then.neurons_removed) if feed_forward == "kept" else ():
        layer = layer.without_neurons(*span)
    return layer


def test_gates_on_a_cut_model_equal_cutting_further(model, batch, logits, further):
    apply_plan_(model, plan_of(model, FIRST_CUT))
    gated = run_gated(logits, model, batch, further, before=FIRST_CUT)
    torch.testing.assert_close(logits(apply_plan_(model, plan_of(model, further)), batch), gated)


@pytest.mark.one_implementation
def test_open_gates_on_a_cut_model_change_nothing(model, batch, logits):
    expected = logits(apply_plan_(model, plan_of(model, FIRST_CUT)), batch)
    assert torch.equal(run_gated(logits, model, batch, FIRST_CUT, before=FIRST_CUT), expected)


@pytest.mark.one_implementation
def test_an_error_inside_leaves_no_trace(model, state):
    before = state(model)
    with pytest.raises(ZeroDivisionError), closed(model, LAYERS["mixed"]):
        raise ZeroDivisionError
    assert state(model) == before


@pytest.mark.one_implementation
def test_weights_are_not_touched_while_closed(model, state):
    before = state(model)
    with closed(model, LAYERS["mixed"]):
        inside = state(model)
    assert {inside[key] == before[key] for key in ("hooks", "forwards")} == {False}
    assert all(inside[key] == before[key] for key in ("values", "parameters", "children", "training", "configs"))


@pytest.mark.one_implementation
def test_a_forward_that_somebody_else_put_there_comes_back(model, part):
    writer = part(model, 0, "feed_forward" if model.config.model_type == "albert" else "self_attention")
    writer.forward = foreign = writer.forward
    with closed(model, LAYERS["everything"]):
        assert writer.forward is not foreign
    assert writer.forward is foreign


@pytest.mark.one_implementation
def test_an_error_while_closing_leaves_no_trace(model, part, state, monkeypatch):
    before = state(model)
    with monkeypatch.context() as patch:
        patch.setattr(type(part(model, 2, "attention")), "register_forward_pre_hook", None)
        with (
            pytest.raises(TypeError),
            closed(model, (LAYERS["everything"][0], LayerPlan(), LayerPlan(heads_removed=(0,)))),
        ):
            pass
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize("count", [0, 2, 4])
def test_the_wrong_number_of_layer_plans_is_named(model, state, count):
    before = state(model)
    with pytest.raises(ValueError, match=rf"3 layers, got {count}"), closed(model, (LayerPlan("removed"),) * count):
        pass
    assert state(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_stand_in_returns_a_zero_of_the_dtype_and_then_nothing(dtype):
    zero, *rest = Removed(3)(torch.ones(2, 4, dtype=dtype), None, attention_mask=None)
    assert (zero.shape, zero.dtype, zero.item(), rest) == ((), dtype, 0.0, [None, None])
