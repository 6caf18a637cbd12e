"""Methods whose result is an adapter that PEFT reads: with any adapter, at the ranks of a file, at ranks by a rule."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from peft import LoraConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.errors import UserError
from autolora.lora.adapter import add_adapter, save_adapter, uses_conv1d
from autolora.lora.config import lora_config
from autolora.lora.exact import counted_parameters, factors_cost
from autolora.lora.loading import adapter_shapes, check_tensors, load_adapter, peft_shapes
from autolora.lora.ranks import Ranks
from autolora.lora.stored import Shape, read_config
from autolora.lora.targets import target_shapes
from autolora.methods.base import Method
from autolora.methods.faults import explained
from autolora.methods.loading import Loading
from autolora.model.load import base_name
from autolora.recipe.schema import MethodSettings
from autolora.training.finetune import Training


class PeftMethod(Method):
    """A method whose result is an adapter that PEFT reads."""

    @override
    @classmethod
    def loading(cls, settings: MethodSettings) -> Loading | None:
        return Loading(
            library="peft",
            base="PeftConfig.from_pretrained(adapter).base_model_name_or_path",
            lines=("model = PeftModel.from_pretrained(model, adapter)",),
            imports=("from peft import PeftConfig, PeftModel",),
        )

    @override
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        assert isinstance(trained, PeftModel)
        save_adapter(trained, self.run.path / "adapter", *base_name(context.pretrained))

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        with explained(self.run):
            read_config(self.run.path / "adapter")  # PEFT takes for granted what is in it
            loaded = PeftModel.from_pretrained(base, self.run.path / "adapter").to(context.compute.device)
            check_tensors(self.run.path / "adapter", peft_shapes(loaded))
            return loaded

    def at_ranks(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> PeftModel:
        """The model with LoRA at these ranks, and the head's modules trained in full.

        Args:
            ranks: With the scaling that it is trained with.
            model: Its layers are replaced in place.
            head: Full names of the head's modules.
            context: Of the run.

        Raises:
            UserError: The model lacks a layer that has a rank.
        """
        modules = dict(model.named_modules())
        if unknown := [name for name in ranks if name not in modules]:
            raise UserError(
                f"{self.run.path}: the model has no layer {unknown[0]}, which search/ranks.json gives a rank"
            )
        config = lora_config(
            ranks,
            dropout=self.recipe.retrain_dropout if self.trains else 0.0,
            head=head,
            task_type=context.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, list(ranks)),
        )
        self.configure(config)
        return add_adapter(model, ranks, config)

    def configure(self, config: LoraConfig) -> None:  # most methods take LoRA as it is
        """Change what `at_ranks` asks of PEFT.

        Args:
            config: Of plain LoRA; changed in place.
        """

    def stored_shapes(self, base: PreTrainedModel, ranks: Ranks, head: Sequence[str]) -> dict[str, Shape]:
        """The tensors that the method's adapter has, by the name in PEFT's file.

        Args:
            base: The pretrained model, not adapted yet.
            ranks: The rank by full module name.
            head: Full names of the head's modules.
        """
        return adapter_shapes(base, ranks, head)

    def load_at(self, ranks: Ranks, base: PreTrainedModel, context: Context) -> nn.Module:
        """As `load`: the adapter must have these ranks and scalings, and the head.

        Args:
            ranks: With the scaling that it was trained with.
            base: As in `load`, and so is the context.
            context: See `load`.

        Raises:
            UserError: It is another adapter.
        """
        head = context.head(base)
        with explained(self.run):
            wanted = self.stored_shapes(base, ranks, head)
            adapted = self.at_ranks(ranks, base, head, context)
            load_adapter(adapted, self.run.path / "adapter", wanted, ranks, head)
            return adapted.to(context.compute.device)


class RankedLora(PeftMethod):
    """LoRA at the ranks of ``search/ranks.json``, wherever they come from."""

    adapts_layers = True

    @override
    def check(self) -> None:
        self.run.ranks()

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        return Training(self.at_ranks(self.run.ranks(), model, head, context))

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        return self.load_at(self.run.ranks(), base, context)

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        return counted_parameters(trained, self.run.ranks(), head, self.cost)

    @staticmethod
    def cost(rank: int, inputs: int, outputs: int) -> int:
        """How many parameters of a layer are trained.

        Args:
            rank: Of the layer.
            inputs: Its features.
            outputs: Likewise.
        """
        return factors_cost(rank, inputs, outputs)

    def given(self, by_name: Mapping[str, int], shapes: Mapping[str, tuple[int, int]], **rule: object) -> Ranks:
        """Ranks that are given by a rule, at the scaling of the search: lora_alpha / k.

        Args:
            by_name: The rank by full module name.
            shapes: (input, output) features by the same names.
            rule: What gave the ranks, JSON-able.
        """
        search = self.recipe.search
        return Ranks(by_name, initial_rank=search.rank, lora_alpha=search.lora_alpha, shapes=shapes, rule=rule)

    @override
    def identity(self) -> list[object]:
        return [*super().identity(), dict(self.run.ranks()), self.recipe.retrain_dropout]


class GivenRanks(RankedLora):
    """Ranks that are not learned but given by a rule."""

    shards = True

    @abstractmethod
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """The rank of every target module.

        Args:
            shapes: (input, output) features by full module name, in the model's order.
        """

    @override
    def search(self, context: Context) -> Ranks:
        model = context.model()
        check_fit(context, model, context.examples(self.recipe.data.splits.train))
        shapes = target_shapes(model, context.targets(model))
        ranks = self.given(self.allocate(shapes), shapes)
        self.run.note("search", seconds=0.0, forward_passes=0, backward_passes=0)
        if context.main:
            ranks.save(self.run.path / "search" / "ranks.json")
        return ranks
