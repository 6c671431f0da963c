import io

import pytest
from rich.console import Console

from axformer_lightning.anatomy import Candidate
from axformer_lightning.replay import Score
from axformer_lightning.report import SearchProgress
from axformer_lightning.search import Trial


def console(terminal=False):
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def trial(loss, best_before, accepted, index=None):
    candidate = Candidate("attention", 2) if index is None else Candidate("head", 2, index)
    return Trial(candidate, Score(loss, 3, 4), Score(best_before, 4, 4), accepted)


TRIALS = [trial(0.5, 0.6, True), trial(0.55, 0.5, False, 1), trial(None, 0.5, False, 2), trial(0.4, 0.5, True, 3)]


@pytest.mark.parametrize(("total", "count"), [(86, "1/86"), (None, "1/?")])
@pytest.mark.parametrize("terminal", [False, True])
def test_the_line_tells_the_last_state(total, count, terminal):
    out = console(terminal)
    with SearchProgress(total, console=out) as progress:
        for one in TRIALS:
            progress.on_trial(one)
    last = out.file.getvalue().rstrip().split("\r")[-1]
    for words in (count, "2 of 4 accepted", "loss 0.4000", "head 3 of layer 2"):
        assert words in last


@pytest.mark.parametrize("num_trials", [1, 2, 3, 4])
def test_the_counts_follow_the_trials(num_trials):
    progress = SearchProgress(console=console())
    for one in TRIALS[:num_trials]:
        progress.on_trial(one)
    assert (progress.tried, progress.accepted, progress.best_loss) == (
        num_trials, (1, 1, 1, 2)[num_trials - 1], (0.5, 0.5, 0.5, 0.4)[num_trials - 1]
    )  # fmt: skip


def test_the_best_loss_of_a_rejected_start_is_the_one_before():
    progress = SearchProgress(console=console())
    progress.on_trial(trial(None, 0.7, False, index=0))
    assert progress.best_loss == 0.7


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_at_all_is_shown_when_switched_off(terminal):
    out = console(terminal)
    with SearchProgress(3, enabled=False, console=out) as progress:
        for one in TRIALS:
            progress.on_trial(one)
    assert out.file.getvalue() == ""


def test_standard_output_is_left_alone(capfd):
    with SearchProgress() as progress:
        progress.on_trial(TRIALS[0])
    out, err = capfd.readouterr()
    assert out == ""
    assert "1 accepted" in err


def test_an_error_ends_the_display():
    out = console(terminal=True)
    with pytest.raises(ZeroDivisionError), SearchProgress(console=out):
        raise ZeroDivisionError
    assert out.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again


@pytest.mark.parametrize("width", [80, 76])
def test_a_narrow_terminal_keeps_the_numbers(width):
    out = Console(file=io.StringIO(), width=width)
    with SearchProgress(86, console=out) as progress:
        progress.on_trial(Trial(Candidate("neuron_group", 10, 11), Score(0.4, 3, 4), Score(0.5, 4, 4), True))
    for words in ("0/86", "0:00:00", "1 of 1 accepted, loss 0.4000, neuron_group 11 of layer 10"):
        assert words in out.file.getvalue()
