"""What tests of the report share."""

from collections.abc import Iterator

import pytest

from autolora.plots import figures


@pytest.fixture(scope="module")
def small_pictures() -> Iterator[None]:
    """Figures of few pixels, which take most of a report's time; for tests of all that is not in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "DPI", 40)
        yield
