"""Which trackers are asked for: ``parse_trackers("tensorboard,mlflow")``; nothing heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from autolora.errors import UserError
from autolora.registry import TRACKERS


def check_trackers(names: Sequence[str]) -> None:
    """Make sure of what was asked for, before anything is begun.

    Args:
        names: Of trackers.

    Raises:
        UserError: There is no such tracker, or its package is not installed.
    """
    for name in names:
        kind = TRACKERS.load(name)
        missing = [module for module in kind.modules if not _is_there(module)]
        if missing:
            raise UserError(
                f"--track {name}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; run: "
                f"pip install 'autolora[{kind.extra}]', or leave out --track {name}"
            )


def parse_trackers(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The trackers that are named, each once.

    Args:
        given: ``"tensorboard,mlflow"``, or several such.

    Raises:
        UserError: As `check_trackers`.
    """
    texts = [given] if isinstance(given, str) else list(given or ())
    names = tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    check_trackers(names)
    return names


def _is_there(module: str) -> bool:
    """Whether a module could be imported; of one within a package that package is."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of the package around it; of one that has no loader
        return False
