"""Methods whose result is trained parameters by name: ``adapter/weights.safetensors``, with ``adapter/method.json``.

The JSON says which method at which size made the weights, for which pretrained model. They are loaded into a model that
is prepared again as it was for the training, and only if they are exactly the parameters that are trained there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.files import read_json, replace_folder, write_json
from autolora.lora.stored import CARD, RECORD, WEIGHTS
from autolora.methods.base import Method
from autolora.methods.loading import Loading
from autolora.model.load import base_name
from autolora.recipe.schema import MethodSettings
from autolora.training.finetune import Training


class TrainedWeights(Method):
    """Trains parameters of the model itself, or of modules that it puts into the model. There is no search."""

    searches = False

    @abstractmethod
    def prepare(self, model: PreTrainedModel, head: Sequence[str]) -> None:
        """Let what is trained require a gradient, after putting it into the model if need be.

        Args:
            model: The pretrained model, changed in place; none of its parameters requires a gradient yet.
            head: Full names of the head's modules.

        Raises:
            UserError: The model has nothing that this method could train.
        """

    @classmethod
    def putting_in(cls, settings: MethodSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Python that puts the method's own modules into ``model``, for a model card: imports, and lines.

        Args:
            settings: A recipe's method section.
        """
        return (), ()

    @override
    @classmethod
    def loading(cls, settings: MethodSettings) -> Loading | None:
        imports, lines = cls.putting_in(settings)
        return Loading(
            library="autolora",
            base=f'json.loads((folder / "{RECORD}").read_text(encoding="utf-8"))["base_model"]',
            begin=("folder = Path(adapter) if Path(adapter).is_dir() else Path(snapshot_download(adapter))",),
            lines=(*lines, f'model.load_state_dict(load_file(folder / "{WEIGHTS}"), strict=False)'),
            imports=(
                "import json",
                "from pathlib import Path",
                *imports,
                "from huggingface_hub import snapshot_download",
                "from safetensors.torch import load_file",
            ),
        )

    @override
    def check(self) -> None:
        self.check_recipe(self.recipe)

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        model.requires_grad_(False)
        self.prepare(model, head)
        return Training(model)

    @override
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        base, revision = base_name(context.pretrained)
        with replace_folder(self.run.path / "adapter", keep=[CARD]) as fresh:
            save_weights(trained, fresh / WEIGHTS)
            write_json(fresh / RECORD, {**self._made_by(), "base_model": base, "revision": revision})

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        folder = self.run.path / "adapter"
        base.requires_grad_(False)
        self.prepare(base, context.head(base))
        try:
            self._check_record(folder / RECORD)
            load_weights(base, folder / WEIGHTS)
        except UserError as error:
            raise UserError(f"{error}; write it anew with: autolora retrain {self.run.path}") from error
        return base

    def _check_record(self, path: Path) -> None:
        record, wanted = read_json(path), self._made_by()
        found = {key: record.get(key) for key in wanted} if isinstance(record, dict) else record
        if found != wanted:
            raise UserError(f"{path} is about {found}, but this run's recipe about {wanted}")

    def _made_by(self) -> dict[str, object]:
        return {"method": self.settings.name, "size": None if self.default_size is None else self.size}


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What requires a gradient, by name; of tied parameters the first name counts.

    Args:
        model: After `TrainedWeights.prepare`.
    """
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the trained parameters of a model as safetensors.

    Args:
        model: After its training.
        path: The file, in a folder that is there.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in trained_parameters(model).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def load_weights(model: nn.Module, path: Path) -> None:
    """Put trained parameters back, in place.

    Args:
        model: Prepared as it was for the training.
        path: What `save_weights` wrote.

    Raises:
        UserError: The file cannot be read, or has other names or shapes than the model trains.
    """
    wanted = trained_parameters(model)
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be loaded ({error})") from error
    if faults := list(_misfits(wanted, found)):
        more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
        raise UserError(f"{path} does not fit the model: {faults[0]}{more}")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    for name in sorted(wanted.keys() - found.keys()):
        yield f"{name} is missing"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"{name} is not trained by this method"
    for name in sorted(wanted.keys() & found.keys()):
        if wanted[name].shape != found[name].shape:
            yield f"{name} has the shape {tuple(found[name].shape)}, but should have {tuple(wanted[name].shape)}"
