"""Every name that a recipe or a command line may say, and what it stands for: ``METHODS.load("lora")``.

A `Registry` maps names to ``"module:attribute"``. Reading the names (to validate a recipe) imports nothing; `load`
imports the one that was chosen and checks that it is what the table holds. Here is the one place where a new task,
method, metric, estimator, lineariser or export format gets its line.

Another package adds its own by an entry point in the group that the registry names (`Registry.group`):

    [project.entry-points."autolora.metrics"]
    toy = "toy_package.metrics:TOY"

It is loaded only when a recipe or a command line names it. A name that is there already is refused, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from autolora.errors import UserError
from autolora.words import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from autolora.allocation.evidence import Score
    from autolora.bilevel.problem import Estimator
    from autolora.export.base import Allocation, Exported
    from autolora.methods.base import Method
    from autolora.metrics.base import Metric
    from autolora.tasks.base import Task
    from autolora.trackers.base import Tracker

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of names, some of which other packages may bring.

    Args:
        kind: What the names are, in the singular: ``method``. The entry points' group is ``autolora.methods``.
        base: ``module:attribute`` of the class that what is loaded must be of; "" for any function.
        entries: ``module:attribute`` by name.
        classes: Whether subclasses of `base` are registered; False for instances of it.
    """

    def __init__(self, kind: str, base: str, entries: dict[str, str], *, classes: bool = True) -> None:
        self.kind, self.base, self.classes = kind, base, classes
        self.group = f"autolora.{kind.replace(' ', '_')}s"
        self._own = dict(entries)

    def __iter__(self) -> Iterator[str]:
        """Our own names in their order, then those of other packages."""
        return iter(dict.fromkeys((*self._own, *(entry.name for entry in _outside(self.group)))))

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(entry.name == name for entry in _outside(self.group))

    @property
    def ours(self) -> tuple[str, ...]:
        """The names that this package brings."""
        return tuple(self._own)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def load(self, name: str) -> T:
        """What is registered under `name`.

        Raises:
            UserError: There is no such name, two packages give it, it cannot be imported, or it is of another kind.
        """
        found: T = self._checked(name, _resolve(self._place(name)) if name in self._own else self._from_outside(name))
        return found

    def ensure(self, name: str) -> None:
        """Load what another package brings, so that what is wrong with it is said early; ours are known to be right.

        Raises:
            UserError: As `load`.
        """
        if name not in self._own or any(entry.name == name for entry in _outside(self.group)):
            self.load(name)

    def check(self, name: str) -> None:
        """Import nothing, but say whether `name` can be meant.

        Raises:
            UserError: There is no such name, or two packages give it.
        """
        self._place(name)

    def _place(self, name: str) -> str:
        """``module:attribute`` of a name."""
        brought = [entry for entry in _outside(self.group) if entry.name == name]
        places = [*([self._own[name]] if name in self._own else []), *(entry.value for entry in brought)]
        if not places:
            near = did_you_mean(name, self)
            raise UserError(
                f"there is no {self.kind} {name!r}{f'; {near}' if near else ''}; there is: {', '.join(self)}"
            )
        if len(places) > 1:
            packages = ", ".join(entry.dist.name if entry.dist else entry.value for entry in brought)
            raise UserError(
                f"the {self.kind} {name!r} is registered {len(places)} times ({', '.join(places)}); uninstall, or "
                f"rename in its entry points, what one of these packages brings: {packages}"
            )
        return places[0]

    def _from_outside(self, name: str) -> Any:
        place = self._place(name)
        (entry,) = (entry for entry in _outside(self.group) if entry.name == name)
        try:
            return entry.load()
        except Exception as error:  # whatever somebody else's module raises while it is imported
            package = entry.dist.name if entry.dist else "its package"
            raise UserError(
                f"the {self.kind} {name!r} ({place}, of {package}) cannot be imported: {type(error).__name__}: {error}"
            ) from error

    def _checked(self, name: str, found: Any) -> Any:
        base: Any = _resolve(self.base) if self.base else Callable
        right = isinstance(found, type) and issubclass(found, base) if self.classes else isinstance(found, base)
        if not right:
            wanted = f"{'a subclass' if self.classes else 'an instance'} of {self.base}" if self.base else "a function"
            raise UserError(f"the {self.kind} {name!r} ({self._place(name)}) must be {wanted}, but it is {found!r}")
        return found


@cache
def _outside(group: str) -> tuple[EntryPoint, ...]:
    """What other packages register; found, not imported."""
    return tuple(_entry_points().select(group=group))


@cache
def _entry_points() -> Any:
    """Of all groups: every installed package is read for them, which is not to be done for each group again."""
    from importlib.metadata import entry_points  # slow to import

    return entry_points()


def _resolve(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


TASKS: Registry[type[Task]] = Registry(
    "task",
    "autolora.tasks.base:Task",
    {
        "chat": "autolora.tasks.chat:Chat",
        "classification": "autolora.tasks.classification:Classification",
        "generation": "autolora.tasks.generation:Generation",
        "imitation": "autolora.tasks.imitation:Imitation",
        "regression": "autolora.tasks.classification:Regression",
        "tagging": "autolora.tasks.tagging:Tagging",
    },
)

METHODS: Registry[type[Method]] = Registry(
    "method",
    "autolora.methods.base:Method",
    {
        "autolora": "autolora.methods.autolora:AutoLora",
        "no-constraint": "autolora.methods.ablations:NoConstraint",
        "sigmoid": "autolora.methods.ablations:Sigmoid",
        "no-meta": "autolora.methods.ablations:NoMeta",
        "squeeze": "autolora.methods.squeeze:Squeeze",
        "squeeze-uniform": "autolora.methods.squeeze:SqueezeUniform",
        "squeeze-shuffled": "autolora.methods.squeeze:SqueezeShuffled",
        "fisher-scratch": "autolora.methods.squeeze:FisherScratch",
        "lora": "autolora.methods.uniform:Uniform",
        "lora-matched": "autolora.methods.uniform:Matched",
        "shuffled": "autolora.methods.chance:Shuffled",
        "random": "autolora.methods.chance:Random",
        "oracle": "autolora.methods.oracle:Oracle",
        "oracle-uniform": "autolora.methods.oracle:OracleUniform",
        "adalora": "autolora.methods.adalora:AdaLora",
        "svd": "autolora.methods.svd:Svd",
        "eva": "autolora.methods.eva:Eva",
        "rslora": "autolora.methods.variants:RsLora",
        "dora": "autolora.methods.variants:Dora",
        "pissa": "autolora.methods.residual:Pissa",
        "olora": "autolora.methods.residual:Olora",
        "lora-fa": "autolora.methods.variants:LoraFa",
        "lora-plus": "autolora.methods.variants:LoraPlus",
        "lora-grid": "autolora.methods.grid:LoraGrid",
        "full": "autolora.methods.subset:Full",
        "head": "autolora.methods.subset:Head",
        "bitfit": "autolora.methods.subset:BitFit",
        "houlsby": "autolora.methods.bottleneck:Houlsby",
        "pfeiffer": "autolora.methods.bottleneck:Pfeiffer",
        "prefix": "autolora.methods.prefix:Prefix",
    },
)

METRICS: Registry[Metric] = Registry(
    "metric",
    "autolora.metrics.base:Metric",
    {
        "accuracy": "autolora.metrics.accuracy:METRIC",
        "bleu": "autolora.metrics.bleu:METRIC",
        "chrf": "autolora.metrics.chrf:METRIC",
        "cider": "autolora.metrics.cider:METRIC",
        "entities": "autolora.metrics.entities:METRIC",
        "exact_match": "autolora.metrics.exact_match:METRIC",
        "f1": "autolora.metrics.f1:METRIC",
        "last_number": "autolora.metrics.last_number:METRIC",
        "matthews": "autolora.metrics.matthews:METRIC",
        "meteor": "autolora.metrics.meteor:METRIC",
        "nist": "autolora.metrics.nist:METRIC",
        "pearson": "autolora.metrics.pearson:METRIC",
        "perplexity": "autolora.metrics.perplexity:METRIC",
        "relative_error": "autolora.metrics.relative_error:METRIC",
        "rouge_l": "autolora.metrics.rouge_l:METRIC",
        "spearman": "autolora.metrics.spearman:METRIC",
        "ter": "autolora.metrics.ter:METRIC",
        "token_accuracy": "autolora.metrics.token_accuracy:METRIC",
    },
    classes=False,
)

ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    "",
    {
        "central_difference": "autolora.bilevel.estimators.central_difference:estimate",
        "forward_difference": "autolora.bilevel.estimators.forward_difference:estimate",
        "exact": "autolora.bilevel.estimators.exact:estimate",
        "first_order": "autolora.bilevel.estimators.first_order:estimate",
    },
    classes=False,
)

# What a LoRA component is worth: functions of an `autolora.allocation.evidence.Evidence`.
SCORES: Registry[Score] = Registry(
    "score",
    "",
    {
        "selection": "autolora.allocation.scores.selection:score",
        "saliency": "autolora.allocation.scores.saliency:score",
        "spectrum": "autolora.allocation.scores.spectrum:score",
        "fisher": "autolora.allocation.scores.fisher:score",
    },
    classes=False,
)

# How a structured input becomes text, for generation: functions of a cell and of the place it is in.
LINEARISERS: Registry[Callable[[Any, str], str]] = Registry(
    "lineariser",
    "",
    {name: f"autolora.data.linearise:{name}" for name in ("none", "e2e", "triples")},
    classes=False,
)

EXPORT_FORMATS: Registry[Callable[[Allocation], Exported]] = Registry(
    "export format",
    "",
    {
        "peft": "autolora.export.peft:export",
        "axolotl": "autolora.export.axolotl:export",
        "llama-factory": "autolora.export.llama_factory:export",
        "ms-swift": "autolora.export.ms_swift:export",
        "trl": "autolora.export.trl:export",
        "torchtune": "autolora.export.torchtune:export",
        "yaml": "autolora.export.neutral:export",
    },
    classes=False,
)

# Where a run is tracked, beside its own files.
TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    "autolora.trackers.base:Tracker",
    {
        "tensorboard": "autolora.trackers.tensorboard:TensorBoard",
        "mlflow": "autolora.trackers.mlflow:MLflow",
        "trackio": "autolora.trackers.trackio:Trackio",
        "wandb": "autolora.trackers.wandb:WandB",
    },
)
