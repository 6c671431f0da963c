"""Places that jobs run in."""

import pytest

from axformer_lightning.multirun.slots import make_slots


@pytest.mark.parametrize(("jobs", "got"), [(0, "0"), (-1, "-1"), (1.5, r"1\.5"), ("two", "'two'"), (True, "True")])
def test_a_number_of_jobs_that_is_none_is_refused(jobs, got):
    with pytest.raises(ValueError, match=rf"`sweep\.jobs` to be a whole number of at least 1, got {got}\. Leave"):
        make_slots(jobs, [], 8)
