"""The layers and modules of a pretrained model on disk, without loading it: ``read_layers(folder)``.

Names come from the header of the weight file. Where there are no safetensors files, or where the checkpoint's names
are not the model's (experts are stored one by one and built as one), the model is built on torch's meta device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from autolora.errors import UserError
from autolora.model.bundled import BUNDLED
from autolora.model.config import OUTPUT, read_config
from autolora.model.explain import reason
from autolora.model.weight_files import INDEX, WEIGHTS, checkpoint_shapes
from autolora.registry import TASKS

BLOCK = re.compile(r"(?:^|\.)\d+\.")  # a module of one of several equal ones
EMBEDDING = re.compile(r"embed|relative_attention_bias")  # T5's is one in its blocks
HEADS = ("classifier", "score")  # the heads that transformers adds from code shared by many architectures
# What GGUF calls the layers of a Llama block, and what transformers does.
GGUF_LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GGUF_HEADER = 1 << 24  # bytes; the names stand before the weights


@dataclass(frozen=True)
class Layers:
    """Full names of a model's modules.

    Args:
        layers: Modules with a weight matrix, which LoRA can adapt.
        modules: All modules.
        complete: False where the names are a checkpoint's: the task model has a first part more (``bert.``) and a head.
        parts: What the task model's modules may be called, part by part (``classifier``, ``out_proj``); empty if
            complete.
        shapes: Of the layers' weights, where they are known.
        tensors: Names in the weight file, where they are known.
        parameters: Dimensions of the weights that are no module's own, such as those of all experts, by their names.
        linears: Modules that are linear layers, where the model was built.
    """

    layers: frozenset[str]
    modules: frozenset[str]
    complete: bool
    parts: frozenset[str] = frozenset()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tensors: frozenset[str] = frozenset()
    parameters: Mapping[str, int] = field(default_factory=dict)
    linears: frozenset[str] | None = None

    def named(self, name: str) -> list[str]:
        """The modules that `name` means, by the full names that are known."""
        return [module for module in self.modules if _is_end(name, [module])]

    def linear(self) -> list[str]:
        """The linear layers of the blocks: all that names and shapes tell for sure to be some."""
        if self.linears is not None:
            return [name for name in self.shapes if name in self.linears]
        known = self.layers & self.shapes.keys()
        return sorted(name for name in known if BLOCK.search(name) and not EMBEDDING.search(name))

    def has_layer(self, name: str) -> bool:
        """Whether `name` is a layer's full name or a dotted end of it."""
        return _is_end(name, self.layers) or (not self.complete and name.partition(".")[2] in self.layers)

    def has_module(self, name: str) -> bool:
        """Whether `name` is a module's, counting those that the task model adds."""
        added = all(part in self.parts or part.isdigit() for part in name.split("."))
        return _is_end(name, self.modules) or (not self.complete and added)


def _is_end(name: str, modules: Iterable[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for module in modules)


def read_layers(folder: Path, trust_remote_code: bool = False, task: str | None = None) -> Layers | None:
    """The names in a model folder; None where only the model's own code could tell them."""
    for model in BUNDLED.values():
        if model.gguf and (folder / model.gguf).is_file():
            return _gguf_layers(folder / model.gguf)
    model_type = str(read_config(folder)["model_type"])
    shapes = checkpoint_shapes(folder)
    if shapes and not any(".experts." in name for name in shapes):
        return _named(shapes, _parts(model_type))
    if not shapes and not any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise UserError(f"the model folder {folder} has no weight file ({WEIGHTS}, {INDEX} or pytorch_model.bin)")
    if trust_remote_code or task is None or task not in TASKS:  # the names are those of the task's model
        return None
    return _built_layers(folder, task)


def _gguf_layers(file: Path) -> Layers:
    """Found in the header's bytes: reading it properly takes seconds, for the vocabulary that is in it too."""
    with file.open("rb") as opened:
        begun = opened.read(GGUF_HEADER)
    # After a name stand the number of dimensions and the dimensions, the input first.
    found = re.findall(rb"blk\.(\d+)\.(\w+)\.weight(?:\x02\0{3}(.{8})(.{8}))?", begun, re.DOTALL)
    shapes = {
        f"model.layers.{block.decode()}.{GGUF_LAYERS[layer.decode()]}": (_whole(output), _whole(given))
        for block, layer, given, output in found
        if layer.decode() in GGUF_LAYERS
    }
    names = set(shapes)
    modules = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
    modules |= {OUTPUT, "score", "model.embed_tokens", "model.norm"}  # the output embeddings, or a classifier's head
    tensors = {f"{OUTPUT}.weight"} if b"output.weight" in begun.replace(b"attn_output.weight", b"") else set()
    known = {name: shape for name, shape in shapes.items() if min(shape) > 0}
    return Layers(frozenset(names), frozenset(modules), complete=True, shapes=known, tensors=frozenset(tensors))


def _whole(number: bytes) -> int:
    return int.from_bytes(number, "little")


def _parts(model_type: str) -> frozenset[str]:
    """The submodules that the architecture's source names; reading it is quick, importing it takes seconds."""
    spec, name = find_spec("transformers"), model_type.replace("-", "_")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    source = folder / "models" / name / f"modeling_{name}.py"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    return frozenset({*re.findall(r"self\.(\w+) = (?:nn\.)?[A-Z]\w*\(", text), *HEADS})


def _named(shapes: dict[str, list[int]], parts: frozenset[str]) -> Layers:
    owners = {name.rpartition(".")[0] for name in shapes}
    modules = {".".join(owner.split(".")[:end]) for owner in owners for end in range(1, owner.count(".") + 2)}
    layers = {name.removesuffix(".weight") for name, s in shapes.items() if name.endswith(".weight") and len(s) >= 2}
    return Layers(
        frozenset(layers),
        frozenset(modules - {""}),
        complete=False,
        parts=parts,
        shapes={name.removesuffix(".weight"): tuple(s) for name, s in shapes.items() if len(s) == 2},
        tensors=frozenset(shapes),
    )


def _built_layers(folder: Path, task: str) -> Layers:
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    family = TASKS.load(task)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            kind = "AutoModelForSeq2SeqLM" if family.decodes and config.is_encoder_decoder else family.auto_class
            model = getattr(transformers, kind).from_config(config)
    except Exception as error:
        raise UserError(f"no model can be built from {folder / 'config.json'}: {reason(error)}") from error
    layers = {name for name, m in model.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) >= 2}
    owned = {f"{name}.weight" for name in layers} | {f"{name}.bias" for name, _ in model.named_modules()}
    loose = {
        name.rpartition(".")[2]: p.ndim for name, p in model.named_parameters() if name not in owned and p.ndim > 2
    }
    weights = {name: tuple(model.get_submodule(name).weight.shape) for name in layers}
    return Layers(
        frozenset(layers),
        frozenset(name for name, _ in model.named_modules() if name),
        complete=True,
        shapes={name: shape for name, shape in weights.items() if len(shape) == 2},
        tensors=frozenset(name for name, _ in model.named_parameters()),
        parameters=loose,
        linears=frozenset(name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)),
    )
