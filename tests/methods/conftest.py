"""A laboratory whose model learns something in a few steps."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from autolora.lora.ranks import Ranks
from autolora.runs.store import Run


@pytest.fixture(scope="session")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `laboratory`, with weights of a size at which updates of them change what the model says; to be read only."""
    from tests.methods.squeezed import write_learner

    return write_learner(tmp_path_factory.mktemp("learner"))


@pytest.fixture(scope="module")
def kept_search(learner: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Run, Ranks]]:
    """As `tests.methods.squeezed.searched`, each made once for a module; to be read only."""
    from tests.methods.squeezed import searched

    return cache(lambda *words: searched(learner, tmp_path_factory.mktemp("searched"), *words))


@pytest.fixture(scope="module")
def kept_run(learner: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run that has ended without an interruption, each made once for a module; to be read only."""
    from tests.methods.squeezed import done

    return cache(lambda *words: done(learner, tmp_path_factory.mktemp("whole"), *words)[0])
