"""Prefix tuning (Li & Liang, ACL 2021), PEFT's: learned keys and values before the input, in every layer (``prefix``).

`size` is the number of virtual tokens; 5 by default, the paper's for E2E and WebNLG with GPT-2 (the commands in its
authors' repository: ``--preseqlen 5``). The LoRA paper quotes these results.

As in the paper, which reports that a prefix trained directly is unstable and worse, the prefix is the output of a
two-layer network with 512 hidden units while it is trained. What is kept, and counted as the method's parameters, is
its output: the keys and values; what was trained is noted beside.

The model does not begin as the pretrained one: whatever the prefix holds, every token attends to it, and the tokens'
positions come after it. (That holds for zeros too, which PEFT's `init_weights="zero"` calls a no-op.)
"""

from __future__ import annotations

from collections.abc import Sequence

from peft import PeftModel, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.lora.loading import check, check_tensors, other_settings, peft_shapes
from autolora.lora.parameters import trainable_parameters
from autolora.lora.stored import CONFIG, read_config
from autolora.methods.faults import explained
from autolora.methods.peft import PeftMethod
from autolora.model.fit import check_length
from autolora.recipe.schema import Recipe
from autolora.registry import TASKS
from autolora.training.finetune import Training

HIDDEN = 512  # units of the network that makes the prefix


class Prefix(PeftMethod):
    """For generation only, where there is no head to be trained."""

    searches = False
    default_size = 5

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        if not TASKS.load(recipe.task).decodes:
            raise UserError(f"method {recipe.method.name!r} is for generation only, and the task is {recipe.task}")
        if recipe.data.packing:
            raise UserError(
                f"data.packing: method {recipe.method.name!r} puts one prefix before each row, and the examples of a "
                "row would share it; set data.packing to false"
            )
        if recipe.model.gradient_checkpointing:
            raise UserError(
                f"model.gradient_checkpointing: method {recipe.method.name!r} hands its prefix over in the model's "
                "cache, which layers that are run twice do without; set model.gradient_checkpointing to false"
            )
        if recipe.model.head != "auto":
            raise UserError(f"method {recipe.method.name!r} trains nothing but the prefix; leave model.head at auto")

    @override
    def check(self) -> None:
        self.check_recipe(self.recipe)

    @override
    def identity(self) -> list[object]:
        return [*super().identity(), self.size, HIDDEN]

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        self._check_length(model, context, [self.recipe.data.splits.train])
        return Training(get_peft_model(model, self._config(context)))

    def _config(self, context: Context) -> PrefixTuningConfig:
        return PrefixTuningConfig(
            task_type=context.task.peft_task_type,
            num_virtual_tokens=self.size,
            prefix_projection=True,
            encoder_hidden_size=HIDDEN,
        )

    @property
    @override
    def positions(self) -> int:
        return self.size

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Those of the prefix: a key and a value for each of its tokens in every layer."""
        assert isinstance(trained, PeftModel)
        return {
            "trainable_parameters": trained.get_prompt_embedding_to_save("default").numel(),
            "head_parameters": 0,
            "parameters_in_training": trainable_parameters(trained)["trainable_parameters"],
        }

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        self._check_length(base, context, [each for each in self.recipe.data.splits.eval if each in context.encoded])
        folder = self.run.path / "adapter"
        with explained(self.run):
            fresh = get_peft_model(base, self._config(context))
            check(folder / CONFIG, other_settings(read_config(folder), fresh.peft_config["default"].to_dict()))
            check_tensors(folder, peft_shapes(fresh))
            return super().load(base, context)

    def _check_length(self, model: PreTrainedModel, context: Context, splits: Sequence[str]) -> None:
        """The tokens come after the prefix: their positions are higher by its length."""
        longest = max((context.task.longest(context.examples(split)) for split in splits), default=0)
        try:
            check_length(model, longest + self.size)
        except UserError as error:
            raise UserError(f"{error}; {self.size} of the tokens are the prefix's (method.size)") from error
