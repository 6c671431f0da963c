import pytest
import torch

from axformer_lightning.anatomy import LayerPlan, layers_left
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.sweeps import engines
from axformer_lightning.sweeps.engines import ENGINES, check_engines, put_into

pytestmark = [pytest.mark.one_family, pytest.mark.one_implementation]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, engine in ENGINES.items() if "openvino" not in str(engine.format)])
def test_a_cut_model_says_the_same_in_every_engine(tiny, tmp_path, name):
    engine = ENGINES[name]
    if not engine.is_installed:
        pytest.skip(f"{name} is not installed")
    layers = (LayerPlan(heads_removed=(1,), neurons_removed=((0, 24),)),)
    model = tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1)  # as an export takes seconds
    apply_plan_(model, Plan("bert", 1, 4, 48, layers)).eval()
    batch = tiny.batch((9,) * 3)
    batch.pop("labels")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run, size = put_into(engine, model, tmp_path / "there", threads=1)
    with torch.no_grad():
        expected = model(**batch).logits
    rough = engine.int8 or engine.dtype == torch.bfloat16
    torch.testing.assert_close(run(batch), expected, rtol=0, atol=0.2 if rough else 1e-4)
    assert size == sum(file.stat().st_size for file in (tmp_path / "there").glob("model.*"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_everything_is_in_static_int8_where_nothing_says_what(tiny, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1).eval()
    run, _ = put_into(ENGINES["ONNX static int8"], model, tmp_path, threads=1, int8=True)
    graph = onnx.load(tmp_path / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("QuantizeLinear") == 2 + 2  # of each block: what it reads, and what lies within
    assert operators.count("MatMulInteger") == 4 + 2  # attention in floats has taken none of them
    assert "DynamicQuantizeLinear" not in operators
    assert run({"input_ids": tiny.batch((9,) * 3)["input_ids"]}).isfinite().all()
    assert not any(layer.int8 for layer in layers_left(model))  # the given one is as it was


def test_how_to_install_an_engine_is_said(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"\['ONNX float'\] to be installed, they are not. Run\s`pip install"):
        check_engines(["PyTorch float", "ONNX float"])
