"""The k largest are those of torch.topk, of any floats, and of equal ones the first."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.hard_attention import keep_top_k, set_hard_attention_, top_k_attention

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler, or it fails")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INFINITY, NAN = float("inf"), float("nan")


def reference(x, k, rest):
    """By a stable sort in float64; NaN comes first, as in topk."""
    x64 = x.double().nan_to_num(nan=INFINITY, posinf=1e300, neginf=-INFINITY)
    order = x64.sort(dim=-1, descending=True, stable=True).indices
    kept = torch.zeros(x.shape, dtype=torch.bool).scatter(-1, order[..., :k], True)
    return torch.where(kept, x, torch.full_like(x, rest))


def bits(x):
    return x.view(torch.int32 if x.itemsize == 4 else torch.int16)


def rows(kind, shape):
    x = torch.randn(shape)
    if kind == "weights":
        x = (4 * x).softmax(-1)
    if kind == "weights, masked":
        x = (4 * x).masked_fill(torch.rand(shape) < 0.5, torch.finfo(torch.float32).min).softmax(-1)
    if kind == "scores, masked":
        x = x.masked_fill(torch.rand(shape) < 0.5, torch.finfo(torch.float32).min)
    if kind == "few values":
        x = x.round()
    if kind == "all equal":
        x = torch.full(shape, 0.125)
    if kind == "of all sizes":
        x = x.sign() * (80 * x).exp()
    if kind == "with what is no number":
        x = x.masked_fill(x > 1, NAN).masked_fill(x < -1, -INFINITY).masked_fill(x.abs() < 0.2, INFINITY)
    return x


KINDS = ("scores", "weights", "weights, masked", "scores, masked", "few values", "all equal", "of all sizes")


@given(
    kind=st.sampled_from([*KINDS, "with what is no number"]),
    dtype=st.sampled_from(DTYPES),
    rest=st.sampled_from([0.0, -INFINITY]),
    batch=st.sampled_from([(), (1,), (5,), (2, 3, 17)]),
    length=st.integers(1, 80) | st.sampled_from([128, 513]),
    k=st.integers(1, 100),
    seed=st.integers(0, 2**31),
)
def test_the_kept_ones_are_the_first_of_a_stable_sort(kind, dtype, rest, batch, length, k, seed):
    torch.manual_seed(seed)
    x = rows(kind, (*batch, length)).to(dtype)
    kept = kernels.keep_largest(x, k, rest)
    assert kept.dtype == dtype
    assert torch.equal(bits(kept), bits(reference(x, k, rest)))
    kernels.keep_largest_(x, k, rest)
    assert torch.equal(bits(x), bits(kept))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_of_both_signs_are_equal(dtype):
    x = torch.tensor([-0.0, 0.0, -1.0, -0.0], dtype=dtype)
    assert kernels.keep_largest(x, 2, -INFINITY).tolist() == [0, 0, -INFINITY, -INFINITY]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_is_the_largest_whatever_its_sign(dtype):
    x = torch.tensor([1.0, NAN, INFINITY, -NAN, 2.0], dtype=dtype)
    assert kernels.keep_largest(x, 2, 0.0).isnan().tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("threads", [1, 2])
def test_any_strides_and_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x = torch.randn(3, 50, 40)
    for same in (x, x.transpose(1, 2).contiguous().transpose(1, 2), x.repeat_interleave(2, -1)[..., ::2]):
        assert torch.equal(kernels.keep_largest(same, 7, 0.0), reference(x, 7, 0.0))
    one_for_all = x[:1].expand(3, 50, 40)
    assert torch.equal(kernels.keep_largest(one_for_all, 7, 0.0), reference(x[:1], 7, 0.0).expand(3, 50, 40))


def test_nothing_of_nothing():
    assert kernels.keep_largest(torch.zeros(0, 9), 3, 0.0).shape == (0, 9)
    assert kernels.keep_largest(torch.zeros(4, 0), 3, 0.0).shape == (4, 0)
    assert kernels.keep_largest(torch.tensor(2.0), 1, 0.0) == 2


def test_what_is_kept_whole_is_a_copy():
    x = torch.randn(2, 3)
    kept = kernels.keep_largest(x, 5, 0.0)
    assert torch.equal(kept, x)
    assert kept.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
def test_gradients_are_those_of_torchs_operators(masked, renormalize):
    scores = torch.randn(2, 3, 9, 9)
    if masked:
        scores[..., 4:] = torch.finfo(torch.float32).min
    weights_of_loss, gradients = torch.randn(2, 3, 9, 9), []
    for context in (None, kernels.switched_off()):
        x = scores.clone().requires_grad_()
        with context or torch.enable_grad():
            kept = keep_top_k(nn.functional.softmax(x, -1), 5)
            kept = kept / kept.sum(-1, keepdim=True) if renormalize else kept
        (kept * weights_of_loss).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.slow
def test_it_is_an_operator_as_torch_wants_it():
    for x in (torch.randn(2, 5, 9), torch.randn(2, 5, 9, requires_grad=True), torch.randn(4, 9, dtype=torch.float16)):
        torch.library.opcheck(kernels.keep_largest, (x, 3, 0.0))
        torch.library.opcheck(kernels.keep_largest_, (x.detach(), 3, 0.0))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="Expected `k` to be at least 1, got 0"):
        kernels.keep_largest(torch.zeros(3), 0, 0.0)
    with pytest.raises(ValueError, match=r"got torch.float64. Call `.float\(\)`"):
        kernels.keep_largest(torch.zeros(3).double(), 1, 0.0)
    with pytest.raises(ValueError, match=r"Expected a contiguous tensor, got strides \(1, 3\). Use `keep_largest`"):
        kernels.keep_largest_(torch.zeros(2, 3).t(), 1, 0.0)
    assert not kernels.can_keep_largest(torch.zeros(3).double())
    assert not kernels.can_keep_largest(torch.zeros(3, device="meta"))
    with kernels.switched_off():
        assert not kernels.can_keep_largest(torch.zeros(3))


@pytest.fixture
def calls(count_calls):
    return count_calls("keep_largest", "keep_largest_")


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("kind", ["none", "floats", "doubles", "booleans"])
def test_without_gradients_it_is_computed_in_place_and_the_arguments_stay_as_they_were(tiny, kind, renormalize):
    model = tiny.model("bert", "eager")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3, renormalize))] * 3)
    attention = model.bert.encoder.layer[0].attention.self
    query, key, value = torch.randn(3, 2, 4, 9, 8)
    seen = torch.rand(2, 1, 9, 9) < 0.7
    hidden = (~seen).float() * torch.finfo(torch.float32).min
    mask = {"none": None, "booleans": seen, "floats": hidden, "doubles": hidden.double()}[kind]
    given = [query, key, value, *([] if mask is None else [mask])]
    before = [x.clone() for x in given]
    value = value.to(mask.dtype) if kind == "doubles" else value
    in_place = top_k_attention(attention, query, key, value, mask)
    assert all(map(torch.equal, given, before))
    learning = top_k_attention(attention, query.clone().requires_grad_(), key, value, mask)
    assert all(map(torch.equal, in_place, learning))


def test_models_that_compute_weights_write_over_them_where_nothing_learns(tiny, count_calls):
    model, calls = tiny.model("bert", "eager"), count_calls("keep_largest_")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    batch = {"input_ids": torch.arange(5, 23).view(2, 9)}
    model(**batch)
    assert not calls
    with torch.no_grad():
        model(**batch)
    assert len(calls) == 3


@pytest.mark.parametrize("renormalize", [False, True])
def test_models_that_compute_weights_choose_by_it_and_no_bit_changes(tiny, family, batch, calls, renormalize):
    model = tiny.model(family, "eager")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3, renormalize))] * 3)
    with torch.no_grad():
        by_kernel = model(**batch).logits
        assert len(calls) == 3
        with kernels.switched_off():
            assert torch.equal(model(**batch).logits, by_kernel)
    assert len(calls) == 3


@pytest.mark.one_family
def test_so_does_training_and_no_bit_of_a_gradient_changes(tiny, family, batch, calls):
    found = []
    for context in (kernels.switched_off(), None):
        model = tiny.model(family, "sdpa").train()
        set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
        torch.manual_seed(0)
        with context or torch.enable_grad():
            model(**batch).loss.backward()
        found.append([x.grad for x in model.parameters() if x.grad is not None])
    assert len(calls) == 3
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.one_family
def test_so_do_models_in_half_precision(tiny, family, batch, calls, dtype):
    model = tiny.model(family, "sdpa").to(dtype)  # where equal weights are common, of which topk keeps any
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()
    assert len(calls) == 3


@pytest.mark.slow
@pytest.mark.one_family
@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_it_is_compiled_and_neither_exported_nor_traced(tiny, family):
    model = tiny.model(family, "eager")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    attention = model.bert.encoder.layer[0].attention
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    for length in (3, 9):
        x = torch.randn(2, length, 32)
        torch.testing.assert_close(compiled(x)[0], attention(x)[0])
        with torch.no_grad():
            torch.testing.assert_close(compiled(x)[0], attention(x)[0])
    with torch.no_grad():
        exported = torch.export.export(attention, (torch.randn(1, 9, 32),))
        traced = torch.jit.trace(attention, torch.randn(1, 9, 32), strict=False)
    assert "axformer_lightning" not in str(exported.graph)
    assert "axformer_lightning::" not in str(traced.inlined_graph)
