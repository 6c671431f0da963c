"""Where a head reads the first token only, skipping the rest changes no logit and falls away from the work."""

import copy
import dataclasses
import inspect
import io
import threading
import time
from contextlib import ExitStack
from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    BertForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from axformer_lightning.anatomy import BERT, FAMILIES, HardAttention, LayerPlan, anatomy_of, layer_modules
from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.first_token import reading_first_token, reads_first_token_only, set_first_token_, top_layer
from axformer_lightning.gates import closed
from axformer_lightning.hard_attention import attending, set_hard_attention_
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from tests.conftest import SAME_LAYOUT

CLS = {"classifier_pooling": "cls", "local_attention": 24}  # eagerly a word whose window is padding is not a number
CONFIGS = {
    "modernbert": CLS,
    "modernbert, no biases": CLS | {"attention_bias": False, "mlp_bias": False},
    "deberta-v2, one projection": {"share_att_key": True, "conv_kernel_size": 3, "position_biased_input": False},
    "deberta-v2, no positions": {"relative_attention": False, "pos_att_type": []},
}


def cases(names, implementations=("eager", "sdpa")):
    """Every way to attend that a kind of model has."""
    both = [(name, way) for name in names for way in implementations]
    return [pytest.param(case, id="-".join(case)) for case in both if case[1] == "eager" or has_sdpa(case[0])]


def has_sdpa(name):
    return name in FAMILIES and FAMILIES[name].attention_dropout is None


WITH_RULE = [name for name, row in FAMILIES.items() if row.after_attention is not None]
DIFFERENT = [*(name for name in WITH_RULE if name not in SAME_LAYOUT), "modernbert, no biases", *list(CONFIGS)[2:]]
DENSE = LayerPlan()
BARE = LayerPlan().without_attention()  # of attention
GONE = LayerPlan("removed", (), "removed")
HEADLESS = LayerPlan(heads_removed=(0, 1, 2, 3))
HARD, RENORMALISED = LayerPlan(hard_attention=HardAttention(3)), LayerPlan(hard_attention=HardAttention(3, True))
LAYERS = {
    "nothing removed": (DENSE, DENSE, DENSE),
    "hard": (DENSE, DENSE, HARD),
    "hard and renormalised": (HARD, DENSE, RENORMALISED),
    "heads of the top": (DENSE, DENSE, LayerPlan(heads_removed=(1, 2))),
    "neurons of the top": (DENSE, DENSE, LayerPlan(neurons_removed=((0, 5), (40, 48)))),
    "feed-forward block of the top": (DENSE, DENSE, LayerPlan(feed_forward="removed")),
    "last attention block": (DENSE, DENSE, BARE),
    "last layer, and hard heads": (DENSE, dataclasses.replace(HARD, heads_removed=(1,)), GONE),
    "last two attention blocks": (DENSE, BARE, BARE),
    "all attention blocks": (BARE, BARE, BARE),
    "everything": (GONE, GONE, GONE),
    "all heads of the last layer": (DENSE, DENSE, HEADLESS),
    "all heads in the middle": (HARD, HEADLESS, BARE),
    "all heads": (HEADLESS, HEADLESS, HEADLESS),
}
FEW = {name: LAYERS[name] for name in ("hard", "last layer, and hard heads", "all attention blocks", "all heads")}


@pytest.fixture(params=cases(DIFFERENT))
def case(request):
    return request.param


def with_layers(names=DIFFERENT):
    """Every case with the few, and these models with all that by the way to attend that they have by default."""
    few = [(case, name) for case in cases(DIFFERENT) for name in FEW]
    default = [case for case in cases(names) if case.values[0][1] == "sdpa" or not has_sdpa(case.values[0][0])]
    both = {f"{case.id}-{name}": (case.values[0], LAYERS[name]) for case, name in few + list(product(default, LAYERS))}
    return [pytest.param(*values, id=id_) for id_, values in both.items()]


@pytest.fixture
def family(case):
    return case[0].split(",")[0]


@pytest.fixture
def make(tiny):
    """Makes a tiny model whose head reads the first token."""

    def build(name, implementation="eager", dtype=torch.float64):
        return tiny.model(name.split(",")[0], implementation, **CONFIGS.get(name, {})).to(dtype)

    return build


@pytest.fixture
def model(make, case):
    return make(*case)


@pytest.fixture
def run(logits):
    """Returns logits; images follow the dtype of the model."""

    def call(model, batch):
        return logits(model, {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in batch.items()})

    return call


@pytest.fixture
def macs(run):
    """Counts the multiply-adds of a call."""

    def count(model, batch):
        with FlopCounterMode(display=False) as counter:
            run(model, batch)
        return counter.get_total_flops() // 2

    return count


@pytest.fixture
def bert(make):
    return make("bert")


@pytest.fixture
def words(tiny):
    """A padded batch without labels."""
    batch = tiny.batch()
    del batch["labels"]
    return batch


def cut(model, layers):
    return apply_plan_(model, Plan(model.config.model_type, 3, 4, 48, tuple(layers)))


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("case", "layers"), with_layers())
def test_logits_stay_with_gates_around_the_rule_and_in_it(model, batch, run, state, layers):
    before = state(model)
    gates = (lambda: closed(model, layers), lambda: attending(model, layers, [DENSE] * 3))
    with ExitStack() as around:
        for enter in gates:
            around.enter_context(enter())
        expected = run(model, batch)
        with reading_first_token(model, layers):
            assert_same(run(model, batch), expected)
    with reading_first_token(model, [DENSE] * 3), ExitStack() as inside:
        for enter in gates:
            inside.enter_context(enter())
        assert_same(run(model, batch), expected)
    assert state(model) == before


@pytest.mark.parametrize(("case", "layers"), with_layers(["bert", "modernbert"]))
def test_logits_of_a_cut_model_stay(model, batch, run, layers):
    expected = run(cut(model, layers), batch)
    with reading_first_token(model, layers):
        assert_same(run(model, batch), expected)
    set_first_token_(model)
    assert_same(run(model, batch), expected)


@pytest.mark.parametrize("case", cases(["bert", "modernbert"]))
def test_attention_may_be_of_a_users_own_class(model, batch, run):
    expected = run(model, batch)
    for layer in layer_modules(model):
        attention = layer.get_submodule(anatomy_of(model).family.self_attention)
        attention.__class__ = type("Derived", (type(attention),), {"__module__": __name__})
    set_first_token_(model)
    assert_same(run(model, batch), expected)


@pytest.mark.parametrize("case", cases(WITH_RULE))
def test_in_single_precision_logits_stay_but_for_rounding(make, case, batch, run):
    model = cut(make(*case, torch.float32), LAYERS["last layer, and hard heads"])
    expected = run(model, batch)
    set_first_token_(model)
    assert (run(model, batch) - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("case", cases(DIFFERENT, ["eager"]))
@pytest.mark.parametrize("layers", FEW.values(), ids=FEW)
def test_work_falls(model, batch, macs, layers):
    before = macs(cut(model, layers), batch)
    with reading_first_token(model, layers):
        assert macs(model, batch) < before


HIDDEN, INNER, TOKENS = 32, 48, 12
WHOLE = TOKENS * (4 * HIDDEN * HIDDEN + 2 * TOKENS * HIDDEN + 2 * HIDDEN * INNER)
HEAD = HIDDEN * HIDDEN + HIDDEN * 3
# Keys and values of all tokens; query, scores, context, projection and feed-forward of one.
TOP = (2 * TOKENS + 2) * HIDDEN * HIDDEN + 2 * TOKENS * HIDDEN + 2 * HIDDEN * INNER
ABOVE = 2 * HIDDEN * INNER
WORK = {
    "nothing removed": 2 * WHOLE + TOP,
    "hard": 2 * WHOLE + TOP,
    "last attention block": WHOLE + TOP + ABOVE,
    "last two attention blocks": TOP + 2 * ABOVE,
    "all attention blocks": 3 * ABOVE,
    "all heads": 3 * ABOVE,
}


@pytest.mark.parametrize("name", WORK)
def test_the_work_left_in_bert_is_that_of_the_first_token(bert, words, macs, name):
    cut(bert, LAYERS[name])
    with reading_first_token(bert, LAYERS[name]):
        assert macs(bert, words) == len(words["input_ids"]) * (WORK[name] + HEAD)


@pytest.mark.parametrize("case", cases(["modernbert", "vit"], ["eager"]))
def test_the_work_left_in_a_pre_norm_family_is_that_of_the_first_token(model, family, batch, macs):
    whole, samples = macs(model, batch), len(batch["labels"])
    tokens, gates = (12, 2) if family == "modernbert" else (17, 1)  # a gated feed-forward block has two first halves
    with reading_first_token(model, [DENSE] * 3):
        skipped = whole - macs(model, batch)
    one = 2 * HIDDEN * HIDDEN + 2 * tokens * HIDDEN + (1 + gates) * HIDDEN * INNER  # query, attention, projection, rest
    assert skipped == samples * (tokens - 1) * one


def test_hard_attention_that_was_switched_on_before_computes_one_query(bert, words, macs, run):
    set_hard_attention_(bert, [HARD] * 3)
    expected, layer = run(bert, words), layer_modules(bert)[2].attention.self
    with reading_first_token(bert, [HARD] * 3):
        attended = []
        hook = layer.register_forward_hook(lambda module, args, out: attended.append(out[1]))
        assert_same(run(bert, words), expected)
        hook.remove()
    assert attended[0].shape == (6, 4, 1, 12)
    assert (attended[0] > 0).sum(-1).max() == 3


def test_the_top_is_the_highest_layer_with_a_head():
    tops = {name: top_layer(layers, 4) for name, layers in LAYERS.items()}
    assert {top for name, top in tops.items() if name in ("hard", "heads of the top", "neurons of the top")} == {2}
    assert {tops["last attention block"], tops["all heads of the last layer"]} == {1}
    assert {tops["last two attention blocks"], tops["all heads in the middle"]} == {0}
    assert {tops["all attention blocks"], tops["all heads"], tops["everything"]} == {None}


@pytest.mark.parametrize(
    ("case", "query"), [(("bert", "eager"), "attention.self.query"), (("modernbert", "sdpa"), "attn.Wqkv")]
)
def test_a_query_layer_that_is_wrapped_keeps_its_wrap(model, batch, run, query):
    linear = layer_modules(model)[2].get_submodule(query)
    plain = linear.forward
    linear.forward = lambda x: plain(x) * 2
    expected = run(model, batch)
    with reading_first_token(model, [DENSE] * 3):
        assert_same(run(model, batch), expected)


def test_the_rule_inside_the_rule_is_the_rule(bert, words, run):
    with reading_first_token(bert, [DENSE] * 3):
        expected = run(bert, words)
        with reading_first_token(bert, [DENSE] * 3):
            assert torch.equal(run(bert, words), expected)
        assert torch.equal(run(bert, words), expected)


def test_an_error_inside_leaves_no_trace(model, state):
    before = state(model)
    with pytest.raises(ZeroDivisionError), reading_first_token(model, [DENSE, DENSE, HEADLESS]):
        raise ZeroDivisionError
    assert state(model) == before


@pytest.mark.parametrize("count", [0, 2, 4])
def test_the_wrong_number_of_layer_plans_is_named(bert, count):
    with pytest.raises(ValueError, match=rf"3 layers, got {count}"), reading_first_token(bert, [DENSE] * count):
        pass


def test_a_family_without_the_rule_is_refused(tiny, state):
    model = tiny.model("albert")
    before = state(model)
    with pytest.raises(ValueError, match="'albert', whose row does not"), reading_first_token(model, [DENSE] * 3):
        pass
    with pytest.raises(ValueError, match="Run the model without the first-token rule"):
        set_first_token_(model)
    assert state(model) == before


def test_a_row_that_names_what_is_not_there_is_refused(bert, monkeypatch):
    monkeypatch.setitem(FAMILIES, "bert", dataclasses.replace(BERT, after_attention="attention.out"))
    with pytest.raises(ValueError, match=r"\['attention.out'\] in 'bert.encoder.layer.0'"):
        anatomy_of(bert)


@pytest.fixture
def probed():
    """Probes a model, and checks that this leaves modes, weights and random numbers alone."""

    def probe(model, batch):
        modes, seed = [module.training for module in model.modules()], torch.random.get_rng_state()
        answer = reads_first_token_only(model, batch)
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.random.get_rng_state(), seed)
        return answer

    return probe


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", cases(WITH_RULE, ["eager"]))
def test_heads_that_read_the_first_token_are_told(model, batch, probed, state, training):
    before = state(model.train(training))
    assert probed(model, {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in batch.items()})
    assert state(model) == before


OTHERS = (AutoModel, AutoModelForMaskedLM, AutoModelForQuestionAnswering, AutoModelForTokenClassification)


@pytest.mark.parametrize("auto", OTHERS)
def test_heads_that_read_more_are_told_and_refused(tiny, words, probed, auto):
    model = tiny.model("bert", auto=auto, num_labels=2)
    assert not probed(model, words)
    with pytest.raises(ValueError, match=rf"got a {type(model).__name__} that reads more"):
        set_first_token_(model)
    assert "forward" not in vars(model)


class Marked(BertForSequenceClassification):
    """Reads the first token, and those whose word is a marker."""

    marker = 0

    def forward(self, input_ids, attention_mask):
        hidden = self.bert(input_ids, attention_mask).last_hidden_state
        found = hidden.masked_fill(input_ids[..., None] != self.marker, 0.0).sum(1)
        return SequenceClassifierOutput(logits=self.classifier(hidden[:, 0] + found))


@pytest.mark.parametrize("marker", [4, 103, 30521])
def test_a_head_that_picks_tokens_by_a_special_word_or_one_at_the_end_is_refused(tiny, marker):
    model = Marked(tiny.model("bert", vocab_size=30522).config)
    model.marker = marker
    with pytest.raises(ValueError, match="got a Marked that reads more"):
        set_first_token_(model)


@pytest.mark.parametrize("positions", [5, 18])
def test_a_head_is_tried_however_few_tokens_a_model_reads(tiny, positions):
    set_first_token_(tiny.model("roberta", max_position_embeddings=positions))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_pooling_of_modernbert_decides(tiny, words, probed, pooling):
    assert probed(tiny.model("modernbert", classifier_pooling=pooling), words) == (pooling == "cls")


@pytest.mark.parametrize("groups", [1, 3])
def test_the_last_application_of_a_shared_layer_is_the_one_that_counts(tiny, words, probed, groups):
    assert probed(tiny.model("albert", num_hidden_groups=groups), words)


def test_one_token_tells_nothing(bert, words):
    with pytest.raises(ValueError, match="at least two tokens"):
        reads_first_token_only(bert, {name: value[:, :1] for name, value in words.items()})
    assert not layer_modules(bert)[2]._forward_hooks


def test_logits_that_are_not_numbers_tell_nothing(bert, words):
    with torch.no_grad():
        bert.classifier.bias.fill_(torch.inf)
    assert not reads_first_token_only(bert, words)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*compile.*")
def test_a_compiled_model_is_probed_eagerly(tiny, words, probed):
    model = tiny.model("bert", auto=AutoModelForTokenClassification)
    model.compile(backend="eager")
    with torch.no_grad():
        model(**words)
    assert not probed(model, words)


def test_a_multiple_choice_reads_first_tokens(tiny, words, run):
    model = tiny.model("bert", auto=AutoModelForMultipleChoice).double()
    batch = {name: value.view(2, 3, -1) for name, value in words.items()}
    expected = run(model, batch)
    set_first_token_(model)
    assert_same(run(model, batch), expected)


@pytest.mark.parametrize("case", cases(DIFFERENT, ["eager"]))
def test_plain_calls_are_shorter_from_now_on_and_leave_the_layers_alone(model, batch, run, macs, state):
    expected, whole = run(model, batch), macs(model, batch)
    with reading_first_token(model, [DENSE] * 3):
        shorter = macs(model, batch)
    set_first_token_(model)
    once, forward = state(model), model.forward
    set_first_token_(model)
    assert model.forward is forward
    assert reads_first_token_only(model, batch)
    assert_same(run(model, batch), expected)
    assert macs(model, batch) == shorter < whole
    assert state(model) == once
    assert once["forwards"] == {""}
    assert inspect.signature(model.forward) == inspect.signature(type(model)(model.config).forward)
    assert once["hooks"] == set()


def test_calls_that_look_inside_or_train_are_whole(bert, words):
    whole = bert(**words, output_hidden_states=True, output_attentions=True)
    set_first_token_(bert)
    for asked in ({"output_hidden_states": True}, {"output_attentions": True}, {"output_hidden_states": [2, 3]}):
        out = bert(**words, **asked)
        assert torch.equal(out.logits, whole.logits)
        found = out.hidden_states or out.attentions
        known = (*whole.hidden_states, *whole.attentions)
        assert all(any(torch.equal(x, y) for y in known) for x in found if x is not None)
    for option in ("output_hidden_states", "output_attentions"):
        setattr(bert.config, option, True)
        assert torch.equal(bert(**words, **{option: None}).logits, whole.logits)
        setattr(bert.config, option, False)
    assert not torch.equal(bert(**words).logits, whole.logits)
    bert.train()
    torch.manual_seed(1)
    mine = bert(**words).logits
    del bert.forward
    torch.manual_seed(1)
    assert torch.equal(bert(**words).logits, mine)


def test_a_cut_afterwards_is_followed(bert, words, run, macs):
    expected = run(cut(copy.deepcopy(bert), LAYERS["last two attention blocks"]), words)
    set_first_token_(bert)
    before = macs(bert, words)
    cut(bert, LAYERS["last two attention blocks"])
    assert_same(run(bert, words), expected)
    assert macs(bert, words) < before - 6 * WHOLE


def test_copies_are_models_of_their_own(bert, words, run, macs):
    set_first_token_(bert)
    expected, work = run(bert, words), macs(bert, words)
    file = io.BytesIO()
    torch.save(bert, file)
    file.seek(0)
    copies = (copy.deepcopy(bert), torch.load(file, weights_only=False))
    with torch.no_grad():
        bert.classifier.weight.zero_()
    for model in copies:
        assert torch.equal(run(model, words), expected)
        assert macs(model, words) == work


def test_files_know_nothing_of_the_rule_and_loading_can_set_it(bert, words, run, macs, tmp_path):
    cut(bert, LAYERS["last layer, and hard heads"])
    expected, names = run(bert, words), set(bert.state_dict())
    set_first_token_(bert)
    assert set(bert.state_dict()) == names
    save_pretrained(bert, tmp_path)
    whole = load_pretrained(tmp_path, attn_implementation="eager")
    shorter = load_pretrained(tmp_path, attn_implementation="eager", first_token_only=True)
    assert torch.equal(run(whole, words), expected)
    assert_same(run(shorter, words), expected)
    assert macs(shorter, words) < macs(whole, words)


def test_loading_does_not_set_it_where_the_head_reads_more(tiny, tmp_path):
    save_pretrained(cut(tiny.model("bert", auto=AutoModelForTokenClassification), LAYERS["hard"]), tmp_path)
    with pytest.raises(ValueError, match="first_token_only=False"):
        load_pretrained(tmp_path, first_token_only=True)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_an_exported_program_takes_the_shorter_way(make, words, run, macs, name):
    model = make(name, "sdpa")
    set_first_token_(model)
    with torch.no_grad():
        program = torch.export.export(model, (), kwargs=words).module()
        assert_same(program(**words).logits, run(model, words))
    whole, work = make(name), FlopCounterMode(display=False)
    with torch.no_grad(), work:
        program(**words)
    assert work.get_total_flops() // 2 < macs(whole, words)


@pytest.mark.slow
def test_compiled_calls_are_whole(bert, words, run):
    expected = run(bert, words)
    set_first_token_(bert)
    assert torch.equal(run(torch.compile(bert, backend="eager"), words), expected)
    torch._dynamo.reset()


def test_calls_from_several_threads_take_turns(bert, words, run, state):
    expected = bert(**words, output_hidden_states=True).hidden_states
    set_first_token_(bert)
    before, started, found = state(bert), threading.Event(), []

    def dawdle(module, args, out):
        if threading.current_thread() is not threading.main_thread():
            started.set()
            time.sleep(0.2)

    hook = layer_modules(bert)[1].register_forward_hook(dawdle)
    other = threading.Thread(target=lambda: found.append(run(bert, words)))
    other.start()
    started.wait()
    here = bert(**words, output_hidden_states=True).hidden_states
    other.join()
    hook.remove()
    assert all(map(torch.equal, here, expected))
    assert torch.equal(found[0], run(bert, words))
    assert state(bert) == before
