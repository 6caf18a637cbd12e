"""A subset of the model's own parameters is trained.

All of them (``full``), the head's (``head``), or the biases and the head's (``bitfit``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.errors import UserError
from autolora.methods.weights import TrainedWeights
from autolora.recipe.schema import Recipe
from autolora.registry import TASKS


class Subset(TrainedWeights):
    """No parameter is added to the model."""

    @abstractmethod
    def chosen(self, model: PreTrainedModel, head: Sequence[str]) -> Iterable[nn.Parameter]:
        """The parameters that are trained.

        Args:
            model: The pretrained model.
            head: Full names of the head's modules.

        Raises:
            UserError: The model has none of them.
        """

    @override
    def prepare(self, model: PreTrainedModel, head: Sequence[str]) -> None:
        for parameter in self.chosen(model, head):
            parameter.requires_grad_(True)


class Full(Subset):
    """Fine-tuning of everything, the embeddings included.

    Its learning rate is its own, 2e-5, the usual one of full fine-tuning (BERT's paper chooses among 2e-5, 3e-5 and
    5e-5, RoBERTa's among 1e-5, 2e-5 and 3e-5): the 1e-4 to 1e-3 that LoRA needs destroy a pretrained model.
    """

    saves_model = True
    trains_base = True
    default_learning_rate = 2e-5

    @override
    def chosen(self, model: PreTrainedModel, head: Sequence[str]) -> Iterable[nn.Parameter]:
        return model.parameters()


class Head(Subset):
    """The head on a frozen backbone: what the pretrained features alone are good for."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        if recipe.model.head == "auto" and not TASKS.load(recipe.task).new_head:
            raise UserError(
                f"method {recipe.method.name!r} trains a task head, and {recipe.task} has none; leave the method out, "
                "or name the modules in model.head"
            )

    @override
    def chosen(self, model: PreTrainedModel, head: Sequence[str]) -> Iterable[nn.Parameter]:
        found = head_parameters(model, head)
        if not found:
            raise UserError(f"method {self.settings.name!r}: {type(model).__name__} has no head; name it in model.head")
        return found


class BitFit(Subset):
    """Ben Zaken et al. (ACL 2022): every bias, those of the layer norms among them, and the head."""

    @override
    def chosen(self, model: PreTrainedModel, head: Sequence[str]) -> Iterable[nn.Parameter]:
        of_head = head_parameters(model, head)
        known = set(map(id, of_head))
        biases = [p for name, p in model.named_parameters() if is_bias(name) and id(p) not in known]
        if not biases:
            raise UserError(
                f"method {self.settings.name!r} trains the biases of the model, and {self.recipe.model.name} "
                f"({type(model).__name__}) has none; leave the method out, or take a model with biases"
            )
        return [*biases, *of_head]


def head_parameters(model: nn.Module, head: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of the head's modules, each once.

    Args:
        model: Which the modules are of.
        head: Their full names; where one lies in another, its parameters still come once.
    """
    found = {id(p): p for name in head for p in model.get_submodule(name).parameters()}
    return list(found.values())


def is_bias(name: str) -> bool:
    """Whether a parameter's name says that it is a bias: ``….dense.bias``, DeBERTa's ``….self.q_bias``."""
    last = name.rpartition(".")[2]
    return last == "bias" or last.endswith("_bias")
