"""The lock of a directory."""

import pytest

from axformer_lightning.runs import locks
from axformer_lightning.runs.resume import claim


def test_who_waits_for_a_run_that_fails_holds_the_directory_after_it(tmp_path, monkeypatch):
    first, lock = claim(tmp_path, {}, resume=True), locks._lock
    first.__enter__()

    def once_it_has_failed(file):
        monkeypatch.setattr(locks, "_lock", lock)
        assert not first.__exit__(ValueError, ValueError("no"), None)
        assert not (tmp_path / ".resume").exists()
        return lock(file)

    monkeypatch.setattr(locks, "_lock", once_it_has_failed)
    with claim(tmp_path, {}, resume=True):
        assert {path.name for path in (tmp_path / ".resume").iterdir()} == {"lock", "run.json"}
        with pytest.raises(RuntimeError, match="which a live process uses"), claim(tmp_path, {}, resume=True):
            pass


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), locks.locked(tmp_path / "nowhere"):
        pass


def test_a_directory_is_claimed_to_resume_or_not(tmp_path):
    with pytest.raises(ValueError, match="`resume` to be True or False, got 'no'"), claim(tmp_path, {}, resume="no"):
        pass
    assert not any(tmp_path.iterdir())
