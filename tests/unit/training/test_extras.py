from __future__ import annotations

import os

import pytest

from monitoring.core.errors import MisConfigured
from training import extras


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "NEEDED", ("json", "no_such_library"))
    with pytest.raises(MisConfigured, match=r"no_such_library: pip install 'leeway\[train\]'"):
        extras.require_training()


def test_the_users_own_number_of_threads_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(extras.THREADS, "7")
    extras.use_half_of_the_cores()
    assert os.environ[extras.THREADS] == "7"
    monkeypatch.delenv(extras.THREADS)
    extras.use_half_of_the_cores()
    assert int(os.environ[extras.THREADS]) == max(1, (os.cpu_count() or 1) // 2)
