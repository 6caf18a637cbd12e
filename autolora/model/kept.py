"""How the frozen base is kept in memory: ``kept = kept_as(model, "bfloat16")``, before it is loaded.

    with kept.while_loading(head):
        loaded = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **kept.options(apart, device))
    kept.settle(loaded, head)

Each tensor of the checkpoint goes straight to the precision that it is kept in: there is never a float32 copy of all
of them. What is drawn, what is trained and what is small (norms, biases, positions) is float32 in every case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from autolora.errors import UserError
from autolora.lora.frozen import narrow
from autolora.model.bundled import bundled
from autolora.model.folder import model_folder
from autolora.model.weight_files import checkpoint_dtypes
from autolora.recipe.schema import Model

HeadOf = Callable[[PreTrainedModel], Sequence[str]]
IN_16_BITS = {"BF16": torch.bfloat16, "F16": torch.float16}
MISSING = "model.quantization: bitsandbytes is not installed; install it with: pip install 'autolora[quantised]'"


@dataclass(frozen=True)
class Kept:
    """How a base is kept.

    Args:
        dtype: Of what is not quantised: float32, or 16 bits for linear layers and embeddings.
        quantization: nf4 or int8 for the linear layers of the backbone; None: they are as everything else.
        double: Whether nf4's scales are quantised, too.
        exact: Whether every value is the checkpoint's.
    """

    dtype: torch.dtype = torch.float32
    quantization: str | None = None
    double: bool = True
    exact: bool = True

    def while_loading(self, head: HeadOf) -> AbstractContextManager[None]:
        """Inside, transformers puts tensors where they are kept; they never are in float32 all together.

        Args:
            head: Gives the full names of a model's modules that are trained in full.
        """
        if self.dtype is torch.float32:
            return nullcontext()
        return _told_of(lambda built: narrow(built, self.dtype, head(built)))

    def options(self, skeleton: Callable[[], PreTrainedModel], head: HeadOf, device: torch.device) -> dict[str, Any]:
        """What `from_pretrained` has to be told of the quantisation.

        Args:
            skeleton: Gives the model without weights, for the names of what is not quantised.
            head: See `while_loading`.
            device: On which the quantised model is to be.

        Raises:
            UserError: bitsandbytes is missing.
        """
        if self.quantization is None:
            return {}
        if find_spec("bitsandbytes") is None:
            raise UserError(MISSING)
        built = skeleton()
        output = built.get_output_embeddings()
        apart = [*head(built), *(name for name, module in built.named_modules() if module is output)]
        config = BitsAndBytesConfig(
            load_in_4bit=self.quantization == "nf4",
            load_in_8bit=self.quantization == "int8",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double,
            llm_int8_skip_modules=[rf"^{re.escape(name)}(?=\.|$)" for name in apart],
        )
        return {"quantization_config": config, "device_map": {"": device}}

    def settle(self, loaded: PreTrainedModel, head: HeadOf) -> None:
        """Make the layers compute as the base is kept.

        Args:
            loaded: The model; changed in place.
            head: See `while_loading`.
        """
        if any(getattr(loaded, f"is_loaded_in_{bits}bit", False) for bits in (4, 8)):  # on disk already, perhaps
            from autolora.lora.quantised import settle_quantised

            settle_quantised(loaded)
            loaded.config.__dict__.pop(
                "quantization_config", None
            )  # an adapter's config.json is about the model, not how it was kept
        if self.dtype is not torch.float32:  # for whatever was not told while it was loaded
            narrow(loaded, self.dtype, head(loaded))


FLOAT32 = Kept()


def kept_as(model: Model, precision: str, *, trained: bool = False) -> Kept:
    """How a recipe's base is kept.

    Args:
        model: The recipe's model section.
        precision: Of passes, "float32" or "bfloat16".
        trained: Whether the method trains the base itself, which then is float32.

    Raises:
        UserError: The recipe wants it kept in fewer bits, and the method trains it.
    """
    wanted = {"base_dtype": model.base_dtype == "bfloat16" and "bfloat16", "quantization": model.quantization}
    if trained:
        if said := next((f"model.{field}: {value}" for field, value in wanted.items() if value), None):
            raise UserError(f"{said} is for a base that stays frozen, and this method trains it; leave it out")
        return FLOAT32
    stored = _stored(model)
    own = IN_16_BITS.get(stored or "")
    dtype = torch.float32
    if model.base_dtype == "bfloat16":
        dtype = torch.bfloat16
    elif model.base_dtype == "auto" and precision == "bfloat16" and own is not None:
        dtype = own
    exact = model.quantization is None and dtype in (torch.float32, own)
    return Kept(dtype, model.quantization, model.double_quantization, exact)


def _stored(model: Model) -> str | None:
    """The one type of all matrices of the checkpoint, as safetensors calls it; None where it is not known, or mixed."""
    known = bundled(model.name)
    if known is not None and known.gguf:
        return None
    folder = model_folder(model.name, model.revision)
    found = checkpoint_dtypes(folder) if folder is not None else set()
    return next(iter(found)) if len(found) == 1 else None


@contextmanager
def _told_of(tell: Callable[[PreTrainedModel], None]) -> Iterator[None]:
    """Inside, `tell` is called with every model between its making, on torch's meta device, and its filling.

    transformers asks the model for its plan of precisions there, and follows what the parameters are.
    """
    kind: Any = PreTrainedModel
    own = kind._get_dtype_plan

    def plan(built: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.dtype]:
        tell(built)
        found: dict[str, torch.dtype] = own(built, dtype)
        return found

    kind._get_dtype_plan = plan
    try:
        yield
    finally:
        kind._get_dtype_plan = own


Reference = Callable[[nn.Module], dict[str, torch.Tensor]]


def set_reference(model: nn.Module, tensors: Reference) -> None:
    """Tell a model where its checkpoint's own values are found, because it keeps others.

    Args:
        model: As it was loaded.
        tensors: Given the model, gives them by the names of its state, in the precision of the files.
    """
    model.__dict__["_reference"] = tensors


def reference_of(model: nn.Module) -> Reference | None:
    """See `set_reference`; None where the model keeps the checkpoint's own values."""
    found: Reference | None = model.__dict__.get("_reference")
    return found
