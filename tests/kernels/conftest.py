import pytest

from axformer_lightning import kernels


@pytest.fixture
def count_calls(monkeypatch):
    """Counts from now on how often kernels are called: in the length of the list that is returned."""

    def count(*names):
        calls = []
        for name in names:
            kernel = getattr(kernels, name)
            monkeypatch.setattr(kernels, name, lambda *args, kernel=kernel: (calls.append(1), kernel(*args))[1])
        return calls

    return count
