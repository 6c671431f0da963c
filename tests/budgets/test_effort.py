"""How much is measured is checked where it is said."""

import pytest

from axformer_lightning.budgets import Effort


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tries": "two"}, "`tries` to be a whole number, got 'two'"),
        ({"tries": -1}, "`tries` to be a whole number of at least 0, got -1"),
        ({"table_samples": 0}, "`table_samples` to be a whole number of at least 1, got 0"),
        ({"table_samples": 1.5}, r"`table_samples` to be a whole number, got 1\.5"),
        ({"bf16": "no"}, "`bf16` to be True or False, got 'no'"),
    ],
)
def test_an_effort_that_is_none_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Effort(**options)
