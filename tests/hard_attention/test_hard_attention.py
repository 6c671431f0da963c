import copy
import itertools

import pytest
import torch
from transformers import AttentionInterface, AutoModel

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.hard_attention import attending, eager_attention, keep_top_k, set_hard_attention_

DENSE = (LayerPlan(),) * 3
LONGEST = 12
INTERFACE = ["bert", "distilbert", "modernbert", "albert"]  # attend through that of transformers


def hard(k, renormalize=False, layers=(0, 1, 2)):
    return [LayerPlan(hard_attention=HardAttention(k, renormalize) if i in layers else None) for i in range(3)]


@pytest.fixture(params=[False, True], ids=["reference", "renormalised"])
def renormalize(request):
    return request.param


@pytest.fixture
def weights(part):
    """Returns the attention weights of every layer for a batch; the kernel has none (tests/kernels compares it)."""

    def run(model, batch):
        found = []

        def keep(module, args, out):
            found.append(out[1] if isinstance(out, tuple) else out)

        hooks = [part(model, i, "weights").register_forward_hook(keep) for i in range(3)]
        with torch.no_grad(), kernels.switched_off():
            model(**batch)
        for hook in hooks:
            hook.remove()
        return found

    return run


@pytest.mark.parametrize("k", [LONGEST, LONGEST + 1])
def test_keeping_at_least_as_many_keys_as_there_are_changes_nothing(model, batch, logits, k, renormalize):
    expected = logits(model, batch)
    set_hard_attention_(model, hard(k, renormalize))
    assert torch.equal(logits(model, batch), expected)


@pytest.mark.parametrize("k", [1, LONGEST - 1])
def test_every_query_keeps_at_most_k_keys(model, batch, weights, k, renormalize):
    set_hard_attention_(model, hard(k, renormalize))
    counts = torch.stack([(weights_BHQK > 0).sum(-1) for weights_BHQK in weights(model, batch)])
    assert counts.max() == k


@pytest.mark.parametrize("k", [1, 3])
def test_the_kept_weights_are_the_largest_of_soft_attention(tiny, family, batch, weights, k):
    model = tiny.model(family, "eager")
    soft = weights(model, batch)[0]
    set_hard_attention_(model, hard(k, layers=(0,)))
    kept = weights(model, batch)[0]
    torch.testing.assert_close(
        kept.sort(-1, descending=True).values[..., :k], soft.sort(-1, descending=True).values[..., :k]
    )
    torch.testing.assert_close(kept, torch.where(kept > 0, soft, 0))


def test_eager_models_put_out_the_hard_weights(tiny, family, batch):
    model = tiny.model(family, "eager")
    set_hard_attention_(model, hard(2, layers=(1,)))
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    assert [int((layer > 0).sum(-1).max()) for layer in attentions] == [LONGEST, 2, LONGEST]


@pytest.mark.parametrize("k", [1, 3])
def test_rows_sum_to_one_exactly_where_they_are_renormalised(model, batch, weights, k, renormalize):
    set_hard_attention_(model, hard(k, renormalize))
    sums = torch.stack([layer.sum(-1) for layer in weights(model, batch)])
    if renormalize:
        torch.testing.assert_close(sums, torch.ones_like(sums))
    else:
        assert sums.min() < 0.9


@pytest.mark.parametrize("k", [1, 5, 20])
def test_padding_gets_no_weight(model, batch, weights, k, renormalize):
    set_hard_attention_(model, hard(k, renormalize))
    real = batch["attention_mask"] == 1
    padded = real[:, None, :, None] & ~real[:, None, None, :]  # what padding itself attends to is nobody's business
    for layer in filter(lambda found: found is not None, weights(model, batch)):
        assert layer.masked_select(padded.expand_as(layer)).abs().max() == 0


@pytest.mark.parametrize("k", [2, 5])
def test_the_words_in_the_padding_do_not_matter(tiny, family, model, batch, logits, k, renormalize):
    set_hard_attention_(model, hard(k, renormalize))
    if family == "roberta":  # counts positions by the padding token
        positions = torch.arange(LONGEST).expand_as(batch["input_ids"])
        batch["position_ids"] = positions + 2
    noise = torch.randint_like(batch["input_ids"], 5, 50)
    other = batch | {"input_ids": torch.where(batch["attention_mask"] == 1, batch["input_ids"], noise)}
    assert not torch.equal(other["input_ids"], batch["input_ids"])
    assert torch.equal(logits(model, other), logits(model, batch))


@pytest.mark.parametrize("k", [2, 5])
def test_a_sample_alone_equals_the_sample_in_a_padded_batch(model, batch, logits, k, renormalize):
    set_hard_attention_(model, hard(k, renormalize))
    for n, together in enumerate(logits(model, batch)):
        length = int(batch["attention_mask"][n].sum())
        alone = logits(model, {name: batch[name][n : n + 1, :length] for name in ("input_ids", "attention_mask")})[0]
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert"], indirect=True)  # whose positions are relative
def test_padding_on_the_left_changes_no_word(tiny, family, implementation, batch, renormalize):
    model = tiny.model(family, implementation, AutoModel, position_biased_input=False)
    set_hard_attention_(model, hard(2, renormalize))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    lengths = mask.sum(1).tolist()
    left, there = (torch.stack([row.roll(-n) for row, n in zip(one, lengths, strict=True)]) for one in (ids, mask))
    with torch.no_grad():
        words, moved = (model(a, b).last_hidden_state[b == 1] for a, b in ((ids, mask), (left, there)))
    torch.testing.assert_close(moved, words, rtol=1e-4, atol=1e-4)


@pytest.fixture
def pairs(batch):
    """The batch with a mask of pairs of tokens in booleans, which transformers hands on as it is."""
    mask = batch["attention_mask"].bool()[:, None, None, :].expand(-1, -1, LONGEST, -1)
    return {"input_ids": batch["input_ids"], "attention_mask": mask}


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
@pytest.mark.parametrize("k", [3, LONGEST])
def test_a_mask_of_booleans_means_to_hard_layers_what_it_means_to_soft_ones(tiny, family, pairs, weights, k):
    model = tiny.model(family, "eager")
    soft = weights(model, pairs)[0]
    set_hard_attention_(model, hard(k, layers=(0,)))
    kept = weights(model, pairs)[0]
    torch.testing.assert_close(kept, torch.where(kept > 0, soft, 0))


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
@pytest.mark.parametrize("layers", [DENSE, hard(3)], ids=["soft", "hard"])
def test_a_mask_of_booleans_made_for_sdpa_keeps_its_meaning_where_a_search_runs_eager(
    tiny, family, pairs, logits, layers
):
    model = tiny.model(family, "sdpa")
    set_hard_attention_(model, layers)
    expected = logits(model, pairs)
    with eager_attention(model), torch.no_grad():
        torch.testing.assert_close(logits(model, pairs), expected, rtol=1e-4, atol=1e-4)
        by_place = model(pairs["input_ids"], pairs["attention_mask"]).logits
    torch.testing.assert_close(by_place, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
def test_both_implementations_attend_alike(tiny, family, batch, logits, renormalize):
    results = []
    for implementation in ("eager", "sdpa"):
        model = tiny.model(family, implementation)
        set_hard_attention_(model, hard(3, renormalize, layers=(0, 2)))
        results.append(logits(model, batch))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)  # sdpa models use the kernel, with an exp of its own


def test_a_batch_without_a_mask_is_attended_to_as_a_whole(model, batch, logits):
    set_hard_attention_(model, hard(2))
    ids = batch["input_ids"][:1]
    torch.testing.assert_close(
        logits(model, {"input_ids": ids}), logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    )


def test_hard_attention_survives_another_implementation(model, batch, logits):
    set_hard_attention_(model, hard(2))
    expected = logits(model, batch)
    for implementation in ("sdpa", "eager", "sdpa"):
        model.set_attn_implementation(implementation)
        torch.testing.assert_close(logits(model, batch), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
def test_soft_layers_follow_another_implementation(model, batch, weights):
    set_hard_attention_(model, hard(LONGEST, layers=(1,)))
    model.set_attn_implementation("eager")
    assert None not in weights(model, batch)
    model.set_attn_implementation("sdpa")
    assert weights(model, batch) == [None] * 3


def test_hard_attention_survives_a_deep_copy(model, batch, logits):
    set_hard_attention_(model, hard(2))
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin, batch), logits(model, batch))
    set_hard_attention_(model, DENSE)
    assert not torch.allclose(logits(twin, batch), logits(model, batch), atol=1e-2)
    twin.set_attn_implementation("eager")
    assert twin.config._attn_implementation == "eager"


def test_a_copy_of_a_hard_model_can_be_made_soft_again(model, batch, logits):
    expected = logits(model, batch)
    set_hard_attention_(model, hard(2))
    twin = copy.deepcopy(model)
    set_hard_attention_(twin, DENSE)
    assert torch.equal(logits(twin, batch), expected)


def test_the_config_of_the_model_does_not_learn_of_it(model, implementation):
    before = model.config.to_dict()
    set_hard_attention_(model, hard(2))
    assert model.config.to_dict() == before
    assert model.config._attn_implementation == implementation


def settings_of(model):
    """The hard attention of every module that has any, and the config of every module that has none."""
    modules = dict(model.named_modules())
    hard_ones = {
        name: module.axformer_hard_attention
        for name, module in modules.items()
        if "axformer_hard_attention" in vars(module)
    }
    return hard_ones, {
        name: id(getattr(module, "config", None)) for name, module in modules.items() if name not in hard_ones
    }


@pytest.mark.parametrize("before", [DENSE, hard(5, layers=(0, 2))], ids=["soft", "partly hard"])
def test_attending_puts_everything_back(model, batch, logits, state, before):
    set_hard_attention_(model, before)
    expected, kept, settings = logits(model, batch), state(model), settings_of(model)
    with attending(model, hard(2, True), before):
        assert not torch.allclose(logits(model, batch), expected, atol=1e-2)
    assert torch.equal(logits(model, batch), expected)
    assert settings_of(model) == settings
    assert state(model) | {"configs": None} == kept | {"configs": None}


@pytest.mark.one_implementation
def test_attending_puts_everything_back_after_an_error(model, state):
    before = state(model)
    with pytest.raises(ZeroDivisionError), attending(model, hard(2), DENSE):
        raise ZeroDivisionError
    assert state(model) == before


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
def test_every_soft_attention_module_holds_the_config_of_the_model(model, part):
    set_hard_attention_(model, hard(2))
    set_hard_attention_(model, DENSE)
    assert all(part(model, i, "self_attention").config is model.config for i in range(3))


def test_eager_attention_puts_the_implementation_back(model, implementation):
    with eager_attention(model):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == implementation
    with pytest.raises(ZeroDivisionError), eager_attention(model):
        raise ZeroDivisionError
    assert model.config._attn_implementation == implementation


def test_gradients_reach_every_head(model, batch, names, renormalize):
    set_hard_attention_(model, hard(2, renormalize))
    model.train()(**batch).loss.backward()
    for i, reader in itertools.product(range(3), names.readers):
        gradient = model.base_model.get_submodule(names.at(i, reader)).weight.grad
        assert gradient.isfinite().all()
        assert gradient.view(4, -1).abs().amax(1).min() > 0


def test_in_training_the_keys_are_chosen_after_dropout(tiny, family, implementation, weights):
    name = "attention_dropout" if family in ("distilbert", "modernbert") else "attention_probs_dropout_prob"
    rate = {name: 0.9}
    model = tiny.model(family, implementation, **rate).train()
    set_hard_attention_(model, hard(3))
    batch = tiny.batch((12,) * 8, tiny.pads[family])
    counts = torch.stack([(layer > 0).sum(-1) for layer in weights(model, batch)])
    assert counts.max() <= 3
    assert counts.min() == 0
    assert counts.float().mean() > 0.6  # a tenth of 12 survive; of 3 chosen before it would be a tenth of 3


@pytest.mark.one_family
def test_an_implementation_without_weights_is_refused(model, state, monkeypatch):
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    before = state(model)
    with pytest.raises(ValueError, match=r"\('eager', 'sdpa'\) .*'flash_attention_2'.*set_attn_implementation"):
        set_hard_attention_(model, hard(2))
    set_hard_attention_(model, DENSE)
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize("k", [3, LONGEST + 1])
def test_an_implementation_that_comes_later_is_refused_as_well(model, batch, logits, k):
    AttentionInterface.register("of_a_stranger", lambda *args, **kwargs: pytest.fail("it attends"))
    set_hard_attention_(model, hard(k))
    before, expected = model.config._attn_implementation, logits(model, batch)
    model.set_attn_implementation("of_a_stranger")  # makes no mask, so that padding would be attended to
    with pytest.raises(ValueError, match=r"got 'of_a_stranger'\. Call `model\.set_attn_implementation"):
        logits(model, batch)
    model.set_attn_implementation(before)
    assert torch.equal(logits(model, batch), expected)


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
@pytest.mark.parametrize("k", [3, LONGEST])
def test_attention_of_a_users_own_class_attends_as_the_one_it_derives_from(model, batch, logits, part, k):
    set_hard_attention_(model, hard(k))
    expected = logits(model, batch)
    for attention in (part(model, i, "self_attention") for i in range(3)):
        attention.__class__ = type("Derived", (type(attention),), {"__module__": __name__})
    assert torch.equal(logits(model, batch), expected)


@pytest.mark.parametrize(
    ("k", "kept"), [(1, [0, 0.6, 0]), (2, [0, 0.6, 0.3]), (3, [0.1, 0.6, 0.3]), (9, [0.1, 0.6, 0.3])]
)
def test_the_k_largest_weights_stay_and_are_not_rescaled(k, kept):
    assert torch.equal(keep_top_k(torch.tensor([[[[0.1, 0.6, 0.3]]]]), k), torch.tensor([[[kept]]]))


def test_ties_keep_no_more_than_k():
    assert (keep_top_k(torch.full((2, 1, 3, 8), 0.125), 3) > 0).sum(-1).unique().tolist() == [3]


def test_half_precision_is_kept(tiny, family, implementation, batch, renormalize):
    model = tiny.model(family, implementation, AutoModel).to(torch.bfloat16)
    set_hard_attention_(model, hard(2, renormalize))
    del batch["labels"]
    output = model(**batch).last_hidden_state
    assert output.dtype == torch.bfloat16
    assert output.isfinite().all()
