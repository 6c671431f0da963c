"""What is on disk is found again, and nothing else is taken for it."""

import pytest
import torch

from axformer_lightning import apply_plan_
from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of
from axformer_lightning.repair import block_order, cache, cached_moments


@pytest.fixture
def family():
    return "bert"


@pytest.fixture
def model(tiny):
    return tiny.model("bert", num_hidden_layers=2)


@pytest.fixture
def never(monkeypatch):
    """Lets nothing be computed any more."""

    def forbid():
        monkeypatch.setattr(cache, "measure_moments", None)
        monkeypatch.setattr(cache, "removal_order", None)

    return forbid


def test_moments_are_measured_once(model, batch, measured, tmp_path, never):
    cached_moments(tmp_path / "new", model, model, [batch])
    never()
    found, expected = cached_moments(tmp_path / "new", model, model, [batch]), measured(model)
    assert found.applications == expected.applications
    assert all(torch.equal(found.of(*name).sums_MM, expected.of(*name).sums_MM) for name in expected.blocks)


@pytest.mark.parametrize("change", ["weight", "config", "batch", "hard attention"])
def test_moments_of_something_else_are_measured_anew(model, batch, plan_of, tmp_path, never, change):
    cached_moments(tmp_path, model, model, [batch])
    if change == "weight":
        with torch.no_grad():
            model.classifier.bias[0] += 1e-3
    if change == "config":
        model.config.layer_norm_eps = 0.5
    if change == "batch":
        batch["input_ids"][0, 0] += 1
    if change == "hard attention":
        apply_plan_(model, plan_of(model, (LayerPlan(hard_attention=HardAttention(2)), LayerPlan())))
    never()
    with pytest.raises(TypeError):
        cached_moments(tmp_path, model, model, [batch])


def test_a_batch_of_unknown_contents_is_refused(model, batch, tmp_path):
    with pytest.raises(ValueError, match="whose contents name a file, got object"):
        cached_moments(tmp_path, model, model, [{**batch, "meta": [object()]}])


@pytest.mark.parametrize("kind", ["attention", "feed_forward"])
def test_an_order_is_found_once_and_in_units_of_the_original_model(model, measured, plan_of, tmp_path, never, kind):
    apply_plan_(model, plan_of(model, (LayerPlan("kept", (1,), "kept", ((8, 40),)), LayerPlan())))
    moments = measured(model)
    order = block_order(model, moments, 0, kind, directory=tmp_path)
    block = {block.kind: block for block in anatomy_of(model).blocks}[kind]
    assert sorted(order.units) == {"attention": [0, 2, 3], "feed_forward": [*range(8), *range(40, 48)]}[kind]
    assert order == block_order(model, moments, 0, kind)
    left = block.keeping(LayerPlan(), order.kept(2))
    assert block.left(left) == order.kept(2)
    never()
    assert block_order(model, moments, 0, kind, directory=tmp_path) == order
    with pytest.raises(TypeError):
        block_order(model, moments, 0, kind, damping=0.1, directory=tmp_path)
