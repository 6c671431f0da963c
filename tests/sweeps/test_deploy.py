import pytest

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.sweeps.deploy import deployed
from axformer_lightning.sweeps.deploy_picture import draw_deployed
from axformer_lightning.sweeps.engines import ENGINES
from axformer_lightning.tasks import TASKS

pytestmark = [pytest.mark.one_family, pytest.mark.one_implementation]
pytest.importorskip("onnxruntime")


@pytest.fixture
def models(tiny):
    """Of one layer, as an export takes seconds."""
    dense, cut = (tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1) for _ in range(2))
    layers = (LayerPlan(heads_removed=(1,), neurons_removed=((0, 24),)),)
    return {"dense": dense, "cut": apply_plan_(cut, Plan("bert", 1, 4, 48, layers))}


FEW = ("PyTorch float", "ONNX int8")
MANY = (*FEW, "PyTorch bfloat16", "ONNX float", "ONNX static int8")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)])
def test_every_model_is_reported_in_every_engine(tiny, models, tmp_path, chosen):
    batch = tiny.batch((9,) * 8)
    batch["labels"] = batch["labels"].clamp(max=1)
    batches = {name: [batch] for name in models}
    options = {"shapes": [(1, 8), (2, 16)], "engines": chosen, "rounds": 1, "seconds": 0.0, "threads": 1}
    points = list(deployed(models, TASKS["demo"], batches, batches, tmp_path, **options))
    assert [(point.model, point.engine) for point in points] == [(m, e) for m in models for e in chosen]
    by = {(point.model, point.engine): point for point in points}
    for name in models:
        plain = by[name, "PyTorch float"]
        assert by[name, "ONNX int8"].int8 > plain.int8 == 0
        if chosen == MANY:
            assert by[name, "ONNX float"].loss == pytest.approx(plain.loss, abs=1e-5)
            assert by[name, "ONNX float"].int8 == 0
            assert by[name, "ONNX int8"].size_bytes < by[name, "ONNX float"].size_bytes
            assert by[name, "ONNX static int8"].int8 > 0
            assert by[name, "PyTorch bfloat16"].loss == pytest.approx(plain.loss, abs=0.1)
            assert by[name, "PyTorch bfloat16"].size_bytes < 0.6 * plain.size_bytes
    assert by["cut", "PyTorch float"].size_bytes < by["dense", "PyTorch float"].size_bytes
    for point in points:
        assert point.ms.keys() == {"1x8", "2x16"}
        assert all(ms > 0 for ms in point.ms.values())
        assert 0 <= point.metrics["accuracy"] <= 1
    draw_deployed(points, tmp_path / "deploy.png", metric="accuracy", shape="2x16")
    assert (tmp_path / "deploy.png").stat().st_size > 0


def test_what_is_not_installed_is_left_out(tiny, models, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "axformer_lightning.sweeps.engines.find_spec", lambda name: None if name == "openvino" else name
    )
    assert not ENGINES["OpenVINO int8"].is_installed
    batch = tiny.batch((9,) * 2)
    batch["labels"] = batch["labels"].clamp(max=1)
    batches = {name: [batch] for name in models}
    options = {"shapes": [(1, 8)], "engines": ("PyTorch float", "OpenVINO float"), "rounds": 1, "seconds": 0.0}
    points = list(deployed({"dense": models["dense"]}, TASKS["demo"], batches, batches, tmp_path, **options))
    assert [point.engine for point in points] == ["PyTorch float"]
