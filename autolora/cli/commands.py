"""The commands by name, each imported when it is asked for: a page of help names them all and imports none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Literal, TypeVar

import typer
from typer.core import TyperCommand
from typing_extensions import override

MARKUP: Literal["rich"] = "rich"  # of the texts of help
F = TypeVar("F", bound=Callable[..., None])
_CLASSES: dict[Callable[..., None], type[TyperCommand]] = {}


def parsed_by(cls: type[TyperCommand]) -> Callable[[F], F]:
    """For a command whose words are read in another way than typer's own: ``@parsed_by(RayCommand)``.

    Args:
        cls: What reads them.
    """

    def noted(function: F) -> F:
        _CLASSES[function] = cls
        return function

    return noted


class Commands(MutableMapping[str, Any]):
    """Commands by name, as a group has them; one is imported when it is first got.

    Args:
        about: The first paragraph of each one's help, in the order of the page.
        load: The function of a command, or the `typer.Typer` with several, imported.
    """

    def __init__(self, about: Mapping[str, str], load: Callable[[str], Any]) -> None:
        self.about, self.load = about, load
        self._there: dict[str, Any] = {}
        self._names = dict.fromkeys(about)

    @override
    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._there:
            self._there[name] = _command(name, self.load(name))
        return self._there[name]

    @override
    def __setitem__(self, name: str, command: Any) -> None:
        self._there[name] = command
        self._names[name] = None

    @override
    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._there.pop(name, None)

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._names

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @override
    def __len__(self) -> int:
        return len(self._names)

    def in_brief(self) -> dict[str, Any]:
        """All of them; one that is not imported has nothing but its name and what it is for."""
        return {name: self._there.get(name) or TyperCommand(name, help=self.about[name]) for name in self}


def _command(name: str, found: Any) -> Any:
    """What typer makes of a function, or of a Typer with several."""
    around = typer.Typer(rich_markup_mode=MARKUP, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name, cls=_CLASSES.get(found, TyperCommand))(found)
    return typer.main.get_group(around).commands[name]
