"""Each kernel is softmax, the choice of the k largest and a product with the values, on any input."""

import os
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from axformer_lightning import kernels

INTERPRETED = (
    os.environ.get("TRITON_INTERPRET") == "1"
)  # Triton reads it when it is imported (tests/kernels/test_gpu.py)
USABLE = {  # or why not
    "C++": kernels.available() or "no C++ compiler, or it fails",
    "GPU": (torch.cuda.is_available() and not INTERPRETED and kernels.available("cuda")) or "no GPU, or no Triton",
    "interpreter": (INTERPRETED and find_spec("triton") is not None)
    or "no Triton, or not asked for by TRITON_INTERPRET=1",
}
WIDTHS = st.sampled_from([1, 3, 8, 16, 31, 32, 33, 64])
LAYOUTS = ("as linear layers put it out", "contiguous", "every second feature", "one for the whole batch")
MASKS = ("none", "keys", "keys, added", "queries", "queries, added", "all masked")


@pytest.fixture(scope="module", params=USABLE)
def kernel(request):
    """The kernel's name; tensors are made where it takes them."""
    if (usable := USABLE[request.param]) is not True:
        pytest.skip(usable)
    with torch.device("cuda" if request.param == "GPU" else "cpu"):
        yield request.param


@pytest.fixture(scope="module")
def attend(kernel):
    if kernel == "interpreter":
        from axformer_lightning.kernels.gpu import attend

        return attend
    return kernels.hard_attention


@pytest.fixture
def operator(kernel):
    if kernel == "interpreter":
        pytest.skip("the interpreter runs the function behind the operator")
    return kernels.hard_attention


def laid_out(x_BHTD, layout):
    """The same numbers, or those of the first sample for all, with other strides."""
    if layout == "contiguous":
        return x_BHTD.contiguous()
    if layout == "every second feature":
        return x_BHTD.repeat_interleave(2, -1)[..., ::2]
    if layout == "one for the whole batch":
        return x_BHTD[:1].expand_as(x_BHTD)
    return x_BHTD.transpose(1, 2).contiguous().transpose(1, 2)


def mask_of(kind, B, H, Q, K):
    if kind == "none":
        return None
    open_BHQK = torch.rand(B, 1, Q if kind.startswith("queries") else 1, K) < 0.7
    open_BHQK[..., K - K // 4 :] = False  # padding
    if kind == "all masked":
        open_BHQK[-1] = False
    if kind.endswith("added"):
        return torch.zeros(open_BHQK.shape).masked_fill(~open_BHQK, torch.finfo(torch.float32).min)
    return open_BHQK.expand(B, H, Q, K) if kind == "queries" else open_BHQK


def reference(query, key, value, mask, k, scaling, renormalize):
    """In float64, and of equal weights the first; also which queries have a doubtful k-th weight."""
    scores = query.double() @ key.double().transpose(2, 3) * scaling
    lowest = torch.finfo(torch.float32).min
    if mask is not None:
        scores = scores.masked_fill(~mask if mask.dtype == torch.bool else mask == lowest, lowest)
    order = scores.sort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(scores).scatter(-1, order.indices[..., :k], 1.0)
    weights = scores.softmax(-1) * kept
    if renormalize:
        weights = weights / weights.sum(-1, keepdim=True)
    gaps = (order.values[..., :-1] - order.values[..., 1:])[..., k - 1 : k]
    doubtful = ((gaps > 0) & (gaps < 1e-4)).any(-1)
    return (weights @ value.double()).transpose(1, 2), doubtful.transpose(1, 2)


@settings(max_examples=30 if INTERPRETED else 200, deadline=None)
@given(
    sizes=st.tuples(
        st.integers(1, 2),
        st.integers(1, 2 if INTERPRETED else 5),
        st.integers(1, 40),
        st.integers(1, 70) | st.just(150),
    ),
    width=WIDTHS,
    value_width=st.none() | WIDTHS,
    k=st.integers(1, 80),
    mask_kind=st.sampled_from(MASKS),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    ties=st.booleans(),
    renormalize=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_kernel_equals_the_reference(
    attend, sizes, width, value_width, k, mask_kind, layouts, ties, renormalize, seed
):
    torch.manual_seed(seed)
    B, H, Q, K = sizes
    shapes = (B, H, Q, width), (B, H, K, width), (B, H, K, value_width or width)
    query, key, value = (laid_out(torch.randn(shape), layout) for shape, layout in zip(shapes, layouts, strict=True))
    if ties:  # scores are small whole numbers, of which float32 makes no other ones
        query, key = query.round(), key.round()
    mask = mask_of(mask_kind, B, H, Q, K)
    scaling = 0.5 if ties else width**-0.5
    found = attend(query, key, value, mask, k, scaling, renormalize)
    expected, doubtful = reference(query, key, value, mask, k, scaling, renormalize)
    assert found.shape == (B, Q, H, value.shape[-1])
    assert found.is_contiguous()
    sure = ~doubtful.unsqueeze(-1)
    torch.testing.assert_close(found.double() * sure, expected * sure, rtol=1e-4, atol=1e-5)


def test_most_queries_of_the_reference_are_sure():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 200, 16)
    assert reference(x, x, x, None, 30, 0.25, False)[1].float().mean() < 0.05


@pytest.mark.parametrize("length", [5, 31, 130, 513])
@pytest.mark.parametrize("k", [1, 30])
def test_exactly_k_weights_are_kept(attend, length, k):
    torch.manual_seed(length)
    query, key = torch.randn(2, 1, 2, length, 32)
    value = torch.eye(length).expand(1, 2, -1, -1)  # so the contexts are the weights
    context = attend(query, key, value, None, k, 0.2, False)
    assert (context > 0).sum(-1).unique().tolist() == [min(k, length)]
    equal = attend(query * 0, key, value, None, k, 0.2, True)
    expected = torch.zeros(length).index_fill(0, torch.arange(min(k, length)), 1 / min(k, length))
    torch.testing.assert_close(equal, expected.expand_as(equal))


def test_one_query_is_computed_as_among_others(attend):
    x = torch.randn(2, 3, 50, 32)
    together = attend(x, x, x, None, 7, 0.2, False)
    alone = attend(x[1:, :, 20:21], x[1:], x[1:], None, 7, 0.2, False)
    assert torch.equal(alone, together[1:, 20:21])


def test_threads_change_nothing(attend, kernel):
    if kernel != "C++":
        pytest.skip("they are those of a CPU")
    x = torch.randn(2, 5, 70, 32)
    threads = torch.get_num_threads()
    alone = attend(x, x, x, None, 7, 0.2, False)
    try:
        torch.set_num_threads(3)
        assert torch.equal(attend(x, x, x, None, 7, 0.2, False), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning", "ignore:All-NaN:RuntimeWarning"
)  # of the interpreter
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_reaches_its_query_and_no_other(attend, bad, renormalize):
    x = torch.randn(1, 1, 40, 8)
    query = x.clone()
    query[0, 0, 3, 0] = bad
    context = attend(query, x, x, None, 5, 0.3, renormalize)
    assert context.isnan().all(-1).squeeze().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("renormalize", [False, True])
def test_a_key_that_is_not_a_number_is_the_largest_of_every_query(attend, renormalize):
    x = torch.randn(1, 1, 40, 8)
    key = x.clone()
    key[0, 0, 7, 0] = torch.nan
    assert attend(x, key, x, None, 5, 0.3, renormalize).isnan().all()


@pytest.mark.parametrize("k", [2, 5, 99])
def test_masked_keys_have_no_weight_at_all(attend, k):
    x = torch.randn(1, 1, 20, 8)
    mask = torch.arange(20) % 4 == 0
    weights = attend(x, x, torch.eye(20)[None, None], mask.expand(1, 1, 20, 20), k, 0.3, False)
    assert ((weights != 0).sum(-1) == min(k, 5)).all()
    assert (weights[..., ~mask] == 0).all()


@pytest.mark.parametrize("k", [2, 9])
def test_minus_infinity_masks_as_false_does(attend, k):
    x = torch.randn(1, 1, 20, 8)
    mask = torch.arange(20).expand(1, 1, 20, 20) % 4 == 0
    added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(attend(x, x, x, added, k, 0.3, False), attend(x, x, x, mask, k, 0.3, False))


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 30.0, 1e15])
def test_scores_of_any_size_are_chosen_from(attend, scale):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 33, 8)
    query, key, value = query * scale, key, torch.randn(1, 1, 33, 8)
    expected, _ = reference(query, key, value, None, 4, 1.0, True)
    torch.testing.assert_close(attend(query, key, value, None, 4, 1.0, True).double(), expected, rtol=1e-2, atol=1e-2)


def test_the_operator_keeps_the_rules_of_torch(operator):
    x = torch.randn(1, 2, 9, 8)
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    torch.library.opcheck(operator, (x, x, x, mask, 3, 0.3, False))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda q, k, v: (q.double(), k, v, None, 3), r"Expected float32.*, got .*float64.*model.float"),
        (lambda q, k, v: (q, k[:, :1], v, None, 3), r"Expected \(B, H, Q, D\).*\(1, 1, 9, 8\).*Repeat"),
        (lambda q, k, v: (q[0], k, v, None, 3), r"Expected \(B, H, Q, D\)"),
        (lambda q, k, v: (q, k, v, None, 0), r"Expected `k` to be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(operator, change, error):
    x = torch.randn(1, 2, 9, 8)
    with pytest.raises(ValueError, match=error):
        operator(*change(x, x, x), 0.3, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask_kind", ["none", "keys", "queries, added"])
def test_half_precision_is_computed_with_in_float32(attend, kernel, dtype, mask_kind):
    if kernel == "C++" or (kernel == "interpreter" and dtype == torch.bfloat16):
        pytest.skip(
            "float32 alone" if kernel == "C++" else "the interpreter multiplies bits of bfloat16 as whole numbers"
        )
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 1, 20, 32).to(dtype)
    mask = mask_of(mask_kind, 2, 1, 20, 20)
    context = attend(query, key, value, mask, 5, 0.2, True)
    expected, doubtful = reference(query, key, value, mask, 5, 0.2, True)
    assert context.dtype == dtype
    sure = ~doubtful.unsqueeze(-1)
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(context.double() * sure, expected * sure, rtol=tolerance, atol=tolerance)


def test_a_gpu_is_given_no_more_than_fits_it(operator, kernel):
    if kernel != "GPU":
        pytest.skip("of a GPU")
    x = torch.zeros(1, 1, 1, 8)
    long = torch.zeros(1, 1, 1025, 8)
    with pytest.raises(
        ValueError, match="Expected at most 1024 keys and 256 features of a head on a GPU, got 1025 and 8"
    ):
        operator(x, long, long, None, 3, 0.3, False)
    wide = torch.zeros(1, 1, 1, 257)
    with pytest.raises(ValueError, match="got 1 and 257"):
        operator(wide, wide, wide, None, 3, 0.3, False)
