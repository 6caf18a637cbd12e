"""What a model cannot take is refused before it is trained on."""

import pytest

from autolora.errors import UserError
from autolora.model.fit import check_length
from tests.model.tiny import tiny_model


@pytest.mark.parametrize(("name", "limit"), [("bert", 40), ("gpt2", 40), ("llama", 40), ("roberta", 39)])
def test_sequences_longer_than_the_models_maximum_are_refused(name: str, limit: int) -> None:
    model = tiny_model(name)
    check_length(model, limit)
    with pytest.raises(
        UserError, match=rf"sequences of {limit + 1} tokens .* maximum of {limit}; lower data.max_length"
    ):
        check_length(model, limit + 1)
