"""What tests of metrics share."""

from collections.abc import Iterator

import pytest

from autolora.metrics.text import one_meteor


@pytest.fixture
def once_begun() -> Iterator[None]:
    """METEOR is begun once in a test, however many scores it asks for: that takes seconds each time."""
    with one_meteor():
        yield
