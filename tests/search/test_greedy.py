import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.anatomy import Candidate, HardAttention, LayerPlan, SearchSpace, neuron_groups, with_candidates
from axformer_lightning.search import Outcome, greedy_search, ordered, repeat_sweeps, steps_of

STEPS = [("A", "ab"), ("B", "cd"), ("C", "ef")]
GROUPS = ((0, 4), (4, 8), (8, 12))
DENSE = LayerPlan()


def space(num_heads, hard_attention=None):
    return SearchSpace(num_heads, GROUPS, hard_attention)


def search(costs, steps=STEPS, inspects=lambda score, best: True, **settings):
    """Run a search in which a set of letters costs the sum of its letters; lower is better."""
    return greedy_search(
        steps,
        lambda letters, best, has_parts: sum(costs.get(letter, 1) for letter in letters),
        lambda score, best: score < best,
        inspects,
        **{"best": 0} | settings,
    )


def tried(outcome):
    return "".join(trial.candidate for trial in outcome.trials)


def test_wholes_come_before_their_parts_and_steps_in_order():
    assert tried(search({})) == "AabBcdCef"


def test_parts_are_not_tried_where_the_whole_was_accepted():
    outcome = search({"B": -1})
    assert tried(outcome) == "AabBCef"
    assert outcome.accepted == ("B",)


def test_parts_are_tried_only_where_the_whole_is_worth_inspecting():
    assert tried(search({"A": 3, "B": 1, "C": 3}, inspects=lambda score, best: score < 2)) == "ABcdC"


def test_inspection_is_told_the_score_of_the_whole_and_the_best_so_far():
    told = []
    search({"A": -2, "B": 5}, inspects=lambda score, best: told.append((score, best)))
    assert told == [(3, -2), (-1, -2)]


def test_what_was_accepted_stays_for_all_later_trials():
    seen = []
    greedy_search(
        STEPS,
        lambda letters, best, has_parts: (
            seen.append("".join(letters)) or (-len(letters) if letters[-1] in "aCB" else 9)
        ),
        lambda score, best: score < best,
        lambda score, best: True,
        best=0,
    )
    assert seen == ["A", "a", "ab", "aB", "aBC"]


def test_the_best_follows_what_was_accepted():
    outcome = search({"A": -1, "B": -2, "C": 7, "e": -3})
    assert [trial.best_before for trial in outcome.trials] == [0, -1, -3, -3, -6]
    assert [trial.score for trial in outcome.trials] == [-1, -3, 4, -6, -5]
    assert [trial.accepted for trial in outcome.trials] == [True, True, False, True, False]
    assert (outcome.best, outcome.accepted) == (-6, ("A", "B", "e"))


def test_measuring_is_told_the_best_so_far_and_whether_parts_would_follow():
    told = []
    greedy_search(
        [("A", ""), ("B", "c")],
        lambda letters, best, has_parts: told.append((letters[-1], best, has_parts)) or -len(told),
        lambda score, best: False,
        lambda score, best: True,
        best="base",
    )
    assert told == [("A", "base", False), ("B", "base", True), ("c", "base", False)]


def test_a_search_goes_on_from_what_was_accepted_before():
    assert search({"z": -5, "A": -1}, best=-5, accepted=("z",)).accepted == ("z", "A")


def test_every_trial_is_announced_in_order():
    announced = []
    outcome = search({"A": -1}, on_trial=announced.append)
    assert tuple(announced) == outcome.trials


def test_what_is_no_longer_there_is_passed_over():
    outcome = search({"A": -1}, is_left=lambda accepted, letter: not ("A" in accepted and letter == "B"))
    assert tried(outcome) == "ACef"


def test_a_part_that_went_with_another_is_passed_over_too():
    outcome = search({"a": -1}, is_left=lambda accepted, letter: not ("a" in accepted and letter == "b"))
    assert tried(outcome) == "AaBcdCef"


def test_a_search_of_nothing_changes_nothing():
    outcome = search({}, steps=[], best=7)
    assert (outcome.accepted, outcome.best, outcome.trials) == ((), 7, ())


@given(st.dictionaries(st.sampled_from("AaBbCc"), st.integers(-5, 5), min_size=6))
def test_a_greedy_search_never_ends_worse_and_its_best_is_the_cost_of_what_it_accepted(costs):
    outcome = search(costs, [("A", "a"), ("B", "b"), ("C", "c")])
    assert outcome.best == sum(costs[letter] for letter in outcome.accepted) <= 0


LETTERS = "ABCabcdef"
CHANGES = st.fixed_dictionaries({letter: st.integers(-2, 2) for letter in LETTERS})


@given(CHANGES)
def test_the_lowest_predicted_change_comes_first_and_a_whole_keeps_its_parts(changes):
    steps = ordered(STEPS, changes.get)
    assert [whole for whole, _ in steps] == sorted("ABC", key=changes.get)
    assert dict(steps) == {w: sorted(parts, key=changes.get) for w, parts in STEPS}


def test_equal_predictions_leave_the_order_as_it_is():
    assert ordered(iter(STEPS), lambda letter: 0.0) == [(whole, list(parts)) for whole, parts in STEPS]


def test_an_ordered_search_tries_parts_only_after_their_whole_was_rejected():
    steps = ordered(STEPS, {**dict.fromkeys(LETTERS, 1), "C": -3, "f": -5, "B": -2, "d": -9}.get)
    assert tried(search({"B": -1}, steps)) == "CfeBAab"


@pytest.mark.parametrize("letter", "Ad")
def test_a_prediction_that_is_not_a_number_is_refused(letter):
    with pytest.raises(ValueError, match=f"predicted change of the loss for {letter}, got nan"):
        ordered(STEPS, lambda candidate: math.nan if candidate == letter else 0.0)


SUBSETS = [frozenset(letters) for n in range(4) for letters in itertools.combinations("abc", n)]


def sweeping(costs, told=None):
    """Return a sweep over what is left of a, b and c, where every set of letters has a cost of its own."""

    def sweep(gone, best):
        if told is not None:
            told.append((gone, best))
        return greedy_search(
            [(letter, ()) for letter in "abc" if letter not in gone],
            lambda letters, best, has_parts: costs[frozenset(letters)],
            lambda score, best: score < best,
            lambda score, best: False,
            best=best,
            accepted=gone,
        )

    return sweep


@given(st.fixed_dictionaries({letters: st.integers(-9, 9) for letters in SUBSETS}))
def test_when_the_sweeps_end_nothing_that_is_left_would_be_accepted(costs):
    told = []
    outcome = repeat_sweeps(sweeping(costs, told), best=costs[frozenset()])
    gone = frozenset(outcome.accepted)
    assert outcome.best == costs[gone]
    assert all(costs[gone | {letter}] >= outcome.best for letter in set("abc") - gone)
    assert outcome.accepted == tuple(trial.candidate for trial in outcome.trials if trial.accepted)
    assert len(outcome.trials) == sum(3 - len(before) for before, _ in told)


MEND = {letters: {"": 0, "c": -1, "bc": -2, "abc": -3}.get("".join(sorted(letters)), 5) for letters in SUBSETS}


def test_a_sweep_goes_on_from_the_one_before_until_one_accepts_nothing():
    told = []
    assert repeat_sweeps(sweeping(MEND, told), best=0).accepted == ("c", "b", "a")
    assert told == [((), 0), (("c",), -1), (("c", "b"), -2), (("c", "b", "a"), -3)]


@pytest.mark.parametrize(("sweeps", "accepted", "trials"), [(1, "c", "abc"), (2, "cb", "abcab"), (9, "cba", "abcaba")])
def test_there_are_no_more_sweeps_than_asked_for(sweeps, accepted, trials):
    outcome = repeat_sweeps(sweeping(MEND), sweeps, best=0)
    assert ("".join(outcome.accepted), tried(outcome)) == (accepted, trials)


def test_sweeps_go_on_from_what_was_accepted_before():
    told = []
    outcome = repeat_sweeps(sweeping(MEND, told), 1, best=-1, accepted=("c",))
    assert (told, outcome.accepted) == ([(("c",), -1)], ("c", "b"))


@pytest.mark.parametrize("sweeps", [0, -1])
def test_less_than_one_sweep_is_refused(sweeps):
    with pytest.raises(ValueError, match=f"`sweeps` to be at least 1, or None .* got {sweeps}"):
        repeat_sweeps(lambda accepted, best: Outcome(accepted, best, ()), sweeps, best=0)


def test_a_later_sweep_tries_a_block_again_after_its_parts_are_gone():
    tried_by_sweep = []

    def sweep(gone, best):
        layers = (DENSE,)
        layers = with_candidates(layers, gone, space(2))
        outcome = greedy_search(
            steps_of("pruning", layers, space(2)),
            lambda candidates, best, has_parts: -len(candidates) if candidates[-1].index in (0, 1) else 0,
            lambda score, best: score < best,
            lambda score, best: True,
            best=best,
            accepted=gone,
        )
        tried_by_sweep.append([str(trial.candidate) for trial in outcome.trials])
        return outcome

    repeat_sweeps(sweep, best=0)
    assert tried_by_sweep[1:] == [["feed_forward of layer 0", "neuron_group 2 of layer 0", "attention of layer 0"]]


def text(steps):
    return [(str(whole), [part.index for part in parts]) for whole, parts in steps]


def test_hard_attention_goes_from_the_first_layer_to_the_last():
    assert text(steps_of("hard_attention", [DENSE] * 3, space(4))) == [
        (f"hard_attention of layer {i}", []) for i in range(3)
    ]


def test_hard_attention_skips_layers_that_are_hard_or_have_no_attention():
    layers = [
        LayerPlan(hard_attention=HardAttention(3)),
        DENSE.without_attention(),
        DENSE,
        LayerPlan("kept", (0, 1, 2)),
    ]
    assert [whole.layer for whole, _ in steps_of("hard_attention", layers, space(4))] == [2, 3]


def test_pruning_goes_from_the_last_layer_to_the_first_and_feed_forward_before_attention():
    assert text(steps_of("pruning", [DENSE] * 2, space(4))) == [
        ("feed_forward of layer 1", [0, 1, 2]),
        ("attention of layer 1", [0, 1, 2, 3]),
        ("feed_forward of layer 0", [0, 1, 2]),
        ("attention of layer 0", [0, 1, 2, 3]),
    ]


def test_pruning_skips_what_is_removed_already():
    layers = [LayerPlan("kept", (1, 3), "removed"), LayerPlan("removed", (), "kept", ((0, 6), (8, 12)))]
    assert text(steps_of("pruning", layers, space(4))) == [
        ("feed_forward of layer 1", [1]),
        ("attention of layer 0", [0, 2]),
    ]


def test_a_block_without_units_has_no_parts_but_can_still_go():
    layers = [LayerPlan("kept", (0, 1, 2, 3), "kept", ((0, 12),))]
    assert text(steps_of("pruning", layers, space(4))) == [
        ("feed_forward of layer 0", []),
        ("attention of layer 0", []),
    ]


@given(st.integers(1, 4000), st.data())
def test_neuron_groups_are_a_partition_into_nearly_equal_ranges(size, data):
    groups = neuron_groups(size, data.draw(st.integers(1, size)))
    widths = [stop - start for start, stop in groups]
    assert [n for start, stop in groups for n in range(start, stop)] == list(range(size))
    assert all(first >= then for first, then in itertools.pairwise(widths))
    assert max(widths) - min(widths) <= 1


@given(st.integers(1, 500), st.data())
def test_there_are_as_many_neuron_groups_as_asked_for(size, data):
    count = data.draw(st.integers(1, size))
    assert len(neuron_groups(size, count)) == count


@pytest.mark.parametrize("count", [0, -1, 13])
def test_neuron_groups_that_cannot_be_are_refused(count):
    with pytest.raises(ValueError, match=f"`neuron_groups` between 1 and the intermediate size 12, got {count}"):
        neuron_groups(12, count)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (Candidate("hard_attention", 1), LayerPlan("kept", (2,), "kept", ((0, 4),), HardAttention(5))),
        (Candidate("attention", 1), LayerPlan("removed", (), "kept", ((0, 4),))),
        (Candidate("feed_forward", 1), LayerPlan("kept", (2,), "removed")),
        (Candidate("head", 1, 0), LayerPlan("kept", (0, 2), "kept", ((0, 4),))),
        (Candidate("neuron_group", 1, 2), LayerPlan("kept", (2,), "kept", ((0, 4), (8, 12)))),
        (Candidate("neuron_group", 1, 1), LayerPlan("kept", (2,), "kept", ((0, 8),))),
    ],
    ids=str,
)
def test_a_candidate_changes_its_own_layer_only(candidate, expected):
    layers = (DENSE, LayerPlan("kept", (2,), "kept", ((0, 4),)), DENSE)
    assert with_candidates(layers, [candidate], space(4, HardAttention(5))) == (DENSE, expected, DENSE)


@pytest.mark.parametrize("kind", ["head", "neuron_group"])
def test_a_part_without_an_index_is_named(kind):
    with pytest.raises(ValueError, match=f"{kind} of layer 0"):
        Candidate(kind, 0)
