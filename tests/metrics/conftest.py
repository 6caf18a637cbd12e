"""What tests of metrics share."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from autolora.metrics import text


@pytest.fixture(scope="session")
def kept_meteor() -> Iterator[text._Kept]:
    """METEOR, begun with the first score that is asked of it; it reads its tables for many seconds."""
    with ExitStack() as stack:
        yield text._Kept(stack)


@pytest.fixture
def one_begun(kept_meteor: text._Kept) -> Iterator[text._Kept]:
    """The scores of a test are asked of the METEOR that all of these tests share."""
    token = text._KEPT.set(kept_meteor)
    yield kept_meteor
    text._KEPT.reset(token)
