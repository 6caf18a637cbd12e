"""The pretrained model that a stored adapter is put on, loaded for what the adapter makes of it.

base = load_base(folder, config, Model(name="owner/base"), dtype=None)
base.model    # of the class that the adapter is for, with as many outputs as its head has
base.notes    # what has to be said: de-quantised weights, classes without names

The class is that of the adapter's own config.json, where it brings one (autolora's do), else PEFT's task type, else
what the base model's configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from autolora.errors import UserError
from autolora.files import read_json
from autolora.lora.stored import WRAPPED, Shape
from autolora.model.complete import Loading, check_complete
from autolora.model.heads import output_layer
from autolora.model.opening import gguf_option, opened
from autolora.recipe.schema import Model

AUTO_CLASSES = {  # by PEFT's task type
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
LABELLED = ("SEQ_CLS", "TOKEN_CLS")
HEAD_ENTRIES = ("id2label", "label2id", "problem_type")  # of an adapter's own config.json; num_labels is in the first
SHOWN = 6  # names of classes in a note
UNPACKED = ("bitsandbytes",)  # quantisations that transformers can undo; other ones are refused
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class BaseModel:
    """A pretrained model, on the CPU.

    Args:
        model: In its own precision, or in float32 if that is asked for.
        loading: What became of its checkpoint's tensors.
        notes: What has to be said about it.
    """

    model: PreTrainedModel
    loading: Loading
    notes: list[str] = field(default_factory=list)


def load_base(
    folder: Path, adapter: Mapping[str, Any], shapes: Mapping[str, Shape], model: Model, dtype: str | None
) -> BaseModel:
    """The pretrained model, with the head that the adapter brings the weights of.

    Args:
        folder: The adapter's.
        adapter: The content of its adapter_config.json.
        shapes: Of its tensors, by the name in its file.
        model: Which model; its code is not run.
        dtype: What it is to be in the end; None: as it is.

    Raises:
        UserError: It cannot be loaded, is quantised in a way that cannot be undone, has code of its own, or lacks what
            the adapter does not bring.
    """
    gguf = gguf_option(model.name)
    with opened(model) as found:
        config = AutoConfig.from_pretrained(found.place, trust_remote_code=False, **found.options)
    notes, quantised = [], _quantisation(model.name, config)
    _refuse_own_code(model.name, config)
    own = _own_config(folder, config)
    name = _class_name(folder, adapter, own, config)
    head, said = _head(name, adapter, own, config, shapes)
    with opened(model) as found:
        loaded, report = getattr(transformers, name).from_pretrained(
            found.place,
            trust_remote_code=False,
            dtype=torch.float32 if dtype == "float32" or gguf else "auto",
            ignore_mismatched_sizes=True,  # a head for other classes, which the adapter's replaces
            output_loading_info=True,
            **found.options,
            **head,
        )
    found.as_named(loaded)
    if own is not None and own.get("pad_token_id") is not None:
        for each in (loaded.config, loaded.config.get_text_config()):  # after the model is built, as in the training
            each.pad_token_id = own["pad_token_id"]
    loading = Loading.of(loaded, report)
    check_complete(loaded, loading, _saved_modules(shapes), model.name)
    if gguf:
        notes.append(f"{model.name} is a GGUF file, whose weights are quantised: they are de-quantised to float32")
        if (quantizer := getattr(loaded, "hf_quantizer", None)) is not None:
            quantizer.remove_quantization_config(loaded)  # else it is not written
        loaded.config.__dict__.pop("quantization_config", None)
    if quantised:
        loaded = loaded.dequantize(dtype=DTYPES[dtype] if dtype else None)
        loaded._weight_conversions = None  # those of its quantised files; transformers goes back to the architecture's
        notes.append(f"{model.name} is quantised ({quantised}): it is de-quantised to {str(loaded.dtype)[6:]}")
    loaded.requires_grad_(False).eval()
    return BaseModel(loaded, loading, [*notes, *said])


def _quantisation(name: str, config: PreTrainedConfig) -> str | None:
    """How the checkpoint's weights are quantised, in words; None where they are not."""
    said = getattr(config, "quantization_config", None)
    if not said:
        return None
    entries = said if isinstance(said, dict) else said.to_dict()
    method = str(getattr(entries.get("quant_method"), "value", entries.get("quant_method")))
    if method not in UNPACKED:
        raise UserError(
            f"{name} is quantised by {method}, and what an adapter adds cannot be put into such weights without "
            "quantising anew; name the model that it was made from: --model NAME_OR_PATH"
        )
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{name} is quantised by bitsandbytes, which is not installed; install it (pip install bitsandbytes), or "
            "name the model that it was made from: --model NAME_OR_PATH"
        )
    return "bitsandbytes, 4 bits" if entries.get("load_in_4bit") else "bitsandbytes, 8 bits"


def _refuse_own_code(name: str, config: PreTrainedConfig) -> None:
    if getattr(config, "auto_map", None):
        raise UserError(
            f"{name} is a model with code of its own (auto_map in its config.json), which the merged model would need, "
            "too; merging is for the architectures of transformers"
        )


def _own_config(folder: Path, base: PreTrainedConfig) -> dict[str, Any] | None:
    """The model's configuration that lies beside an adapter; None where there is none."""
    path = folder / "config.json"
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("model_type") != base.model_type:
        found = content.get("model_type") if isinstance(content, dict) else content
        raise UserError(
            f"{path} is about a model of type {found!r}, but the base model is of type {base.model_type!r}; name the "
            "model that the adapter was trained on: --model NAME_OR_PATH"
        )
    return content


def _class_name(folder: Path, adapter: Mapping[str, Any], own: Mapping[str, Any] | None, base: PreTrainedConfig) -> str:
    mapped = (adapter.get("auto_mapping") or {}).get("base_model_class")
    of_own = next(iter((own or {}).get("architectures") or ()), None)
    of_base = next(iter(base.architectures or ()), None)
    task = AUTO_CLASSES.get(str(adapter.get("task_type")))
    name = of_own or task or mapped or of_base
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or not hasattr(transformers, name):
        raise UserError(
            f"{folder}: transformers has no model class {name!r}, which the adapter is for; write its task_type into "
            f"adapter_config.json, one of {', '.join(AUTO_CLASSES)}"
        )
    return name


def _head(
    name: str,
    adapter: Mapping[str, Any],
    own: Mapping[str, Any] | None,
    base: PreTrainedConfig,
    shapes: Mapping[str, Shape],
) -> tuple[dict[str, Any], list[str]]:
    """What the model's configuration must say of the head, and what is to be told about it."""
    if own is not None:
        given = {key: own[key] for key in HEAD_ENTRIES if own.get(key) is not None}
        if "id2label" in given:
            given["id2label"] = {int(i): label for i, label in given["id2label"].items()}
            given["num_labels"] = len(given["id2label"])
        return given, []
    if adapter.get("task_type") not in LABELLED:
        return {}, []
    with torch.device("meta"):
        skeleton = getattr(transformers, name).from_config(base)
    layer = output_layer(skeleton, base.num_labels or 0)
    stored = shapes.get(f"{WRAPPED}{layer}.weight")
    if stored is None:
        return {}, []
    if stored[0] == base.num_labels:
        return {}, _names_of_base(layer, base)
    said = f"the adapter's {layer} has {stored[0]} outputs and no names for them: they are LABEL_0, LABEL_1, …"
    return {"num_labels": stored[0]}, [said]


def _names_of_base(layer: str | None, base: PreTrainedConfig) -> list[str]:
    """What is to be told where a head of the adapter's own keeps the names that the base model's head had."""
    names = [str(name) for _, name in sorted((base.id2label or {}).items())]
    if all(name == f"LABEL_{i}" for i, name in enumerate(names)):
        return []
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return [
        f"the adapter's {layer} has no names for its outputs, which keep those of the base model's: {shown}; if they "
        "are others, put a config.json with id2label beside the adapter, and merge again"
    ]


def _saved_modules(shapes: Mapping[str, Shape]) -> Sequence[str]:
    """Full names of the modules whose own weights are in an adapter's file; a bias alone is not all of one."""
    inner = (name.removeprefix(WRAPPED) for name in shapes if name.startswith(WRAPPED) and ".lora_" not in name)
    return sorted({name.removesuffix(".weight") for name in inner if name.endswith(".weight")})
