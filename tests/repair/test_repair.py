"""A repaired model, cut or as it would be: every family."""

import copy
from dataclasses import replace

import pytest
import torch

from axformer_lightning import apply_plan_, load_pretrained, save_pretrained
from axformer_lightning.anatomy import LayerPlan, anatomy_of
from axformer_lightning.repair import apply_repair_, find_repair, output_error, repair, repaired_as

FAMILIES = ["bert", "electra", "roberta", "distilbert", "mpnet", "deberta-v2", "modernbert", "albert", "vit"]
DENSE = (LayerPlan(),) * 3
UNITS = (
    LayerPlan("kept", (0, 2), "kept", ((8, 24), (40, 48))),
    LayerPlan("kept", (0, 1, 2, 3), "kept", ((3, 48),)),
    LayerPlan("kept", (3,), "kept", ((0, 48),)),
)
MIXED = (
    LayerPlan("kept", (1, 2), "removed"),
    LayerPlan("removed", (), "kept", ((8, 24),)),
    LayerPlan("removed", (), "removed"),
)
LAYERS = {"units": UNITS, "mixed": MIXED, "everything": (LayerPlan("removed", (), "removed"),) * 3, "nothing": DENSE}
FIRST = (LayerPlan("kept", (2,), "kept", ((8, 12),)), LayerPlan("kept", (0,)), LayerPlan("kept", (3,), "removed"))
THEN = (LayerPlan("kept", (1, 2), "kept", ((8, 24),)), LayerPlan("removed", (), "kept", ((0, 40),)), FIRST[2])


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(tiny, family, implementation):
    # Where nothing but padding is seen, float64 makes NaN of it.
    config = {"local_attention": 64, "norm_bias": True} if family == "modernbert" else {}
    return tiny.model(family, implementation, **config).double()


@pytest.fixture
def batch(batch, family):
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


@pytest.fixture
def bert(tiny):
    return tiny.model("bert")


def run_as(logits, model, batch, *repair_of):
    with repaired_as(model, *repair_of):
        return logits(model, batch)


@pytest.mark.slow_but_first
def test_a_model_run_as_repaired_equals_the_cut_and_repaired_one(model, batch, logits, measured, plan_of):
    moments = measured(model)
    for name, layers in LAYERS.items():
        found, cut = find_repair(model, layers, moments), apply_plan_(copy.deepcopy(model), plan_of(model, layers))
        expected, bare = run_as(logits, model, batch, layers, moments), logits(cut, batch)
        apply_repair_(cut, found)
        torch.testing.assert_close(logits(cut, batch), expected, rtol=1e-6, atol=1e-6, msg=name)
        assert layers == DENSE or (bare - expected).abs().max() > 1e-3, name


def test_a_model_that_was_cut_before_can_be_repaired_again(model, batch, logits, measured, plan_of):
    moments = measured(apply_plan_(model, plan_of(model, FIRST)))
    expected = run_as(logits, model, batch, THEN, moments)
    found = find_repair(model, THEN, moments)
    apply_repair_(apply_plan_(model, plan_of(model, THEN)), found)
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("implementation", ["eager"], indirect=True)
def test_no_block_is_further_from_what_it_gave_than_without_repair(model, measured):
    moments, anatomy = measured(model), anatomy_of(model)
    values = find_repair(model, UNITS, moments).values
    better = 0
    for i, layer in enumerate(UNITS):
        for block in anatomy.blocks:
            name = anatomy.name(i, block.out_projection)
            old = model.get_submodule(name)
            kept = [unit * block.width + f for unit in block.left(layer) for f in range(block.width)]
            whole = (old.weight, old.bias, moments.of(i, block.kind), kept)
            before = output_error(*whole, old.weight[:, kept], old.bias)
            after = output_error(*whole, values[f"{name}.weight"], values[f"{name}.bias"])
            assert after <= before * (1 + 1e-9)
            better += after < 0.99 * before
    assert better >= 5


@pytest.mark.parametrize("implementation", ["eager"], indirect=True)
def test_running_as_repaired_leaves_no_trace_also_after_an_error(model, batch, logits, measured, state):
    before, expected, moments = state(model), logits(model, batch), measured(model)
    with torch.inference_mode(), repaired_as(model, MIXED, moments):
        inside = state(model)
    assert inside["values"] != before["values"]
    assert state(model) == before
    with pytest.raises(ZeroDivisionError), repaired_as(model, UNITS, moments):
        raise ZeroDivisionError
    assert state(model) == before
    assert torch.equal(logits(model, batch), expected)


def test_a_repaired_model_comes_back_from_disk_bit_by_bit(tiny, family, batch, logits, measured, plan_of, tmp_path):
    model = tiny.model(family)
    batch = {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}
    found = find_repair(model, MIXED, measured(model))
    apply_repair_(apply_plan_(model, plan_of(model, MIXED)), found)
    save_pretrained(model, tmp_path)
    assert torch.equal(logits(load_pretrained(tmp_path, attn_implementation="eager"), batch), logits(model, batch))


@pytest.mark.parametrize("family", ["bert"])
def test_parameters_stay_the_objects_that_optimizers_hold(bert, batch, measured, plan_of, state):
    for name, parameter in bert.named_parameters():
        parameter.requires_grad_("bias" in name)
    found = find_repair(bert, MIXED, measured(bert))
    before = state(apply_plan_(bert, plan_of(bert, MIXED)))
    places = {name: parameter.data_ptr() for name, parameter in bert.named_parameters()}
    with torch.inference_mode():
        apply_repair_(bert, found)
    after = state(bert)
    changed = {name for name, value in before.pop("values").items() if after["values"][name] != value}
    assert changed == set(found.values)
    assert {key: after[key] for key in before} == before
    assert {name: parameter.data_ptr() for name, parameter in bert.named_parameters()} == places
    assert {("bias" in name) == parameter.requires_grad for name, parameter in bert.named_parameters()} == {True}
    bert(**batch).loss.backward()


@pytest.mark.parametrize("family", ["bert"])
def test_applying_a_repair_twice_is_applying_it_once(bert, measured, plan_of, state):
    found = find_repair(bert, MIXED, measured(bert))
    apply_repair_(apply_plan_(bert, plan_of(bert, MIXED)), found)
    before = state(bert)
    apply_repair_(bert, found)
    assert state(bert) == before


@pytest.mark.parametrize("family", ["bert"])
def test_a_block_that_is_cut_alike_is_solved_once(bert, measured, monkeypatch):
    moments, solved = measured(bert), {}
    expected = find_repair(bert, UNITS, moments, solved=solved)
    monkeypatch.setattr(repair, "repaired", None)
    again = find_repair(bert, UNITS, moments, solved=solved)
    assert len(solved) == 6
    assert all(torch.equal(again.values[name], value) for name, value in expected.values.items())


@pytest.mark.parametrize("family", ["bert"])
def test_autocast_keeps_nothing_of_what_a_repair_replaces(bert, measured, batch, logits):
    model, moments = bert.requires_grad_(True), measured(bert)
    found = find_repair(model, THEN, moments)
    biases = {name: value for name, value in found.values.items() if name.endswith("bias")}  # which a cut leaves
    with torch.autocast("cpu", torch.bfloat16):
        logits(model, batch)
        apply_repair_(model, replace(found, values=biases))
        kept = logits(model, batch)
        torch.clear_autocast_cache()
        assert torch.equal(kept, logits(model, batch))


@pytest.mark.parametrize("family", ["bert"])
def test_what_cannot_be_repaired_is_refused_and_leaves_no_trace(bert, measured, plan_of, state):
    moments, uncut = measured(bert), copy.deepcopy(bert)
    before = state(bert)
    found = find_repair(bert, UNITS, moments)
    with pytest.raises(ValueError, match="one LayerPlan for each of 3 layers, got 2"):
        find_repair(bert, UNITS[:2], moments)
    with pytest.raises(ValueError, match=r"shape \(32, 16\), got \(32, 32\)\. Cut the model"):
        apply_repair_(bert, found)
    assert state(bert) == before
    apply_plan_(bert, plan_of(bert, FIRST))
    with pytest.raises(ValueError, match=r"layers\[0\] keeps more of its attention block"):
        find_repair(bert, DENSE, moments)
    with pytest.raises(ValueError, match="after a cut, anew"):
        find_repair(bert, THEN, moments)
    with pytest.raises(ValueError, match="moments of the feed_forward block of layer 0, got those of"):
        find_repair(uncut, UNITS, measured(uncut, blocks=[(0, "attention")]))


@pytest.mark.parametrize("own", ["weight", "bias"])
@pytest.mark.parametrize("family", ["bert"])
def test_out_projections_that_share_a_parameter_are_refused_and_left_as_they_are(bert, measured, state, own):
    layers = bert.bert.encoder.layer
    setattr(layers[2].output.dense, own, getattr(layers[0].output.dense, own))
    before, moments = state(bert), measured(bert)
    name = rf"'bert.encoder.layer.2.output.dense.{own}'"
    with pytest.raises(ValueError, match=rf"its own at {name}, .* shares it with 'bert.encoder.layer.0.*Untie"):
        find_repair(bert, UNITS, moments)
    assert state(bert) == before
