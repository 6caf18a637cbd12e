"""A laboratory whose model learns something in a few steps."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `laboratory`, with weights of a size at which updates of them change what the model says; to be read only."""
    from tests.methods.squeezed import write_learner

    return write_learner(tmp_path_factory.mktemp("learner"))
