import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from axformer_lightning import apply_plan_, load_pretrained, quantize, save_pretrained
from axformer_lightning.anatomy import LayerPlan, anatomy_of, layers_left
from axformer_lightning.int8 import (
    Int8Embedding,
    Int8Linear,
    has_embeddings,
    int8_modules,
    int8_ranges,
    observing,
    rounding,
    set_int8_,
)
from axformer_lightning.int8.rounding import weight_steps
from axformer_lightning.plan import Plan, plan_of
from axformer_lightning.rounds import ROUNDED, search_and_cut_
from axformer_lightning.search import Int8, Pruning, SearchSettings, Shortcuts, make_settings
from axformer_lightning.search.options import PUBLISHED

pytestmark = pytest.mark.one_implementation
WHOLE = ("attention", "feed_forward")


def everything(model):
    words = ("embeddings",) if has_embeddings(model) else ()
    return [LayerPlan(int8=(*words * (i == 0), *WHOLE)) for i in range(anatomy_of(model).num_layers)]


def by_hand(model, layers):
    """The model with rounding in hooks and weights."""
    other = copy.deepcopy(model)
    for name in int8_modules(model, layers):
        module = other.get_submodule(name)
        step = weight_steps(module.weight)
        module.weight.data = (module.weight.data / step).round() * step
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda module, args: (as_uint8(args[0]), *args[1:]))
    return other


def as_uint8(x):
    low, high = x.min().clamp(max=0), x.max().clamp(min=1e-9)
    step = (high - low) / 255
    zero = (-low / step).round()
    return (((x / step).round() + zero).clamp(0, 255) - zero) * step


def test_a_model_in_int8_computes_with_rounded_factors(model, batch, logits):
    layers = everything(model)
    expected = logits(by_hand(model, layers), batch)
    was = logits(model, batch)
    with rounding(model, layers, layers_left(model)):
        rounded = logits(model, batch)
    assert not torch.allclose(rounded, was, atol=1e-5)
    assert torch.allclose(rounded, expected, atol=1e-4)
    assert torch.equal(logits(model, batch), was)


def test_every_linear_layer_of_a_block_that_is_left_is_in_int8_and_no_other(model):
    layers = [LayerPlan(int8=("attention",)), LayerPlan(), LayerPlan(int8=("feed_forward",))]
    before = {name for name, module in model.named_modules() if type(module) is nn.Linear}
    set_int8_(model, layers)
    anatomy = anatomy_of(model)
    first, last = (anatomy.layers[i] for i in (0, 2))
    found = {name for name, module in model.named_modules() if type(module) is Int8Linear}
    heads, neurons = anatomy.blocks
    parts = [(first, heads), (last, neurons)]
    projections = {
        f"{layer}.{part}" for layer, block in parts for part in (*block.in_projections, block.out_projection)
    }
    assert found == projections & before
    set_int8_(model, anatomy.dense_layers())
    assert {name for name, module in model.named_modules() if type(module) is nn.Linear} == before


@pytest.mark.slow_but_first
def test_the_search_puts_in_int8_what_the_loss_allows(model, batch, family):
    small = quantize(model, [batch], tolerance=9.0)
    layers = small.axformer_plan.layers
    assert [layer.int8 for layer in layers] == [layer.int8 for layer in everything(model)]
    kinds = [decision.kind for decision in small.axformer_plan.decisions]
    assert kinds[-2:] == ["int8_feed_forward", "int8_attention"]
    assert [kind == "int8_embeddings" for kind in kinds] == [family != "vit" and i == 0 for i in range(len(kinds))]
    assert plan_of(model).layers == anatomy_of(model).dense_layers()  # the given one is as it was
    assert not any(isinstance(module, Int8Linear | Int8Embedding) for module in model.modules())


def test_what_the_rule_rejects_stays_in_floats(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    plan = quantize(model, [batch], tolerance=0.0, full_scores=True).axformer_plan
    assert {decision.accepted for decision in plan.decisions} == {True, False}
    for decision in plan.decisions:
        assert decision.accepted == (decision.loss < decision.best_before), decision
        assert decision.accepted == (decision.kind.removeprefix("int8_") in plan.layers[decision.layer].int8)


@pytest.mark.slow_but_first
def test_the_score_of_the_search_is_that_of_the_model_it_leaves(model, batch):
    small = quantize(model, [batch], tolerance=9.0)
    last = small.axformer_plan.decisions[-1]
    with torch.inference_mode():
        logits = small(**{name: value for name, value in batch.items() if name != "labels"}).logits
        loss = nn.functional.cross_entropy(logits, batch["labels"])
    assert last.accepted
    assert loss.item() == pytest.approx(last.loss, rel=2e-2)


@pytest.mark.slow_but_first
def test_embeddings_are_in_int8_in_the_file_and_the_model_comes_back_to_the_bit(model, batch, logits, tmp_path):
    small = quantize(model, [batch], tolerance=9.0)
    save_pretrained(small, tmp_path)
    loaded = load_pretrained(tmp_path, attn_implementation=small.config._attn_implementation)
    assert torch.equal(logits(loaded, batch), logits(small, batch))
    assert loaded.axformer_plan == small.axformer_plan
    save_pretrained(loaded, tmp_path / "again")
    first, second = (path.joinpath("model.safetensors").read_bytes() for path in (tmp_path, tmp_path / "again"))
    assert first == second


def test_static_ranges_are_those_of_what_is_read_on_the_search_set(tiny):
    model, batch, read = tiny.model("bert", "eager"), tiny.batch((9,) * 6), {}
    hooks = []
    for name in int8_modules(model, everything(model)):
        module = model.get_submodule(name)
        if isinstance(module, nn.Linear):
            note = partial(lambda name, module, args: read.update({name: args[0]}), name)
            hooks.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    small = quantize(model, [batch], static=True, tolerance=9.0)
    ranges = int8_ranges(small, small.axformer_plan.layers)
    assert ranges.keys() == read.keys()
    for name, (least, most) in ranges.items():
        assert (least, most) == pytest.approx(
            (min(0, read[name].min().item()), max(0, read[name].max().item())), rel=1e-4
        )


@pytest.mark.one_family
def test_what_could_not_be_rounded_is_refused_before_anything_is_scored(model):
    with pytest.raises(ValueError, match=r"Expected weights in float32 .*Call `model\.float\(\)` first"):
        quantize(model.bfloat16(), [])


@pytest.mark.parametrize("static", [True, False])
def test_what_else_is_in_a_batch_moves_predictions_in_dynamic_int8_alone(tiny, logits, static):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    small = quantize(model, [batch], static=static, tolerance=9.0)
    alone = logits(small, {name: value[:1] for name, value in batch.items()})
    assert torch.allclose(logits(small, batch)[:1], alone, atol=1e-6) == static


def test_static_ranges_are_in_the_file_and_in_what_training_saves(tiny, logits, tmp_path):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    small = quantize(model, [batch], static=True, tolerance=9.0)
    save_pretrained(small, tmp_path)
    loaded = load_pretrained(tmp_path, attn_implementation="eager")
    assert torch.equal(logits(loaded, batch), logits(small, batch))
    again = tiny.model("bert", "eager")
    apply_plan_(again, small.axformer_plan)
    again.load_state_dict(small.state_dict())
    assert torch.equal(logits(again, batch), logits(small, batch))
    set_int8_(again, [LayerPlan()] * 3)
    assert not any("int8_range" in module.__dict__ for module in again.modules())


def test_static_int8_is_decided_the_same_where_only_the_first_token_is_computed(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9, 7, 8, 9, 5, 6))
    plans, work = [], []
    for first_token in (True, False):
        settings = make_settings(None, None, ROUNDED, int8=Int8(static=True))
        settings = replace(settings, shortcuts=Shortcuts(first_token=first_token))
        small = copy.deepcopy(model)
        cut = search_and_cut_(small, small, [batch], settings)
        plans.append(cut.plan.layers)
        work.append(cut.counts.layer_tokens)
    assert plans[0] == plans[1]
    assert work[0] < work[1]


def test_processes_see_the_ranges_of_all(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    with observing(model, [LayerPlan()] * 3) as observed:
        model(**batch)
    least, most = observed.together(lambda mine: [mine])[1]["attention"].outer
    other = [2 * value for value in observed.most.flatten().tolist()]
    assert observed.together(lambda mine: [mine, other])[1]["attention"].outer == (2 * least, 2 * most)


def test_static_ranges_are_the_same_whatever_type_torch_makes_numbers_of(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    expected = quantize(model, [batch], static=True, tolerance=9.0).axformer_plan.layers
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert quantize(model, [batch], static=True, tolerance=9.0).axformer_plan.layers == expected
    finally:
        torch.set_default_dtype(before)


def test_gradients_reach_the_weights_of_a_model_in_int8(model, batch):
    set_int8_(model, everything(model))
    model(**batch).loss.backward()
    for name in int8_modules(model, everything(model)):
        assert model.get_submodule(name).weight.grad.abs().sum() > 0, name


def test_what_is_in_int8_is_cut_no_further(tiny):
    model = quantize(tiny.model("bert"), [tiny.batch()], tolerance=9.0)
    plan = plan_of(model)
    narrower = replace(plan, layers=tuple(layer.without_head(1) for layer in plan.layers))
    with pytest.raises(ValueError, match=r"Expected a plain torch.nn.Linear .*Int8Linear.*cut before quantizing"):
        apply_plan_(model, narrower)
    assert plan_of(model) == plan


def test_weights_in_half_precision_are_refused(tiny):
    model = tiny.model("bert").bfloat16()
    plan = Plan("bert", 3, 4, 48, tuple(everything(model)))
    with pytest.raises(ValueError, match=r"float32 .*bfloat16.*model.float\(\)"):
        apply_plan_(model, plan)
    assert not any(isinstance(module, Int8Linear) for module in model.modules())


def test_int8_beside_pruning_with_repair_is_refused():
    with pytest.raises(ValueError, match="later search"):
        SearchSettings(pruning=Pruning(repair=True), int8=Int8())


def test_int8_goes_last_in_a_round_with_pruning(tiny):
    model, batch = tiny.model("bert", "eager"), tiny.batch((9,) * 6)
    settings = make_settings(None, Pruning(4), PUBLISHED | {"majority": 0.0, "tolerance": 0.3}, int8=Int8())
    plan = search_and_cut_(model, model, [batch], settings).plan
    kinds = [decision.kind.startswith("int8") for decision in plan.decisions]
    assert kinds == sorted(kinds)
    assert any(kinds)
    assert not all(kinds)
    assert all(name in ("embeddings", *WHOLE) for layer in plan.layers for name in layer.int8)
    assert {type(model.get_submodule(name)) for name in int8_modules(model, plan.layers)} <= {Int8Linear, Int8Embedding}
