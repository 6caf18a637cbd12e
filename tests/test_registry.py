"""The registries: what every name stands for, what other packages bring, and what is refused."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.registry import (
    ESTIMATORS,
    EXPORT_FORMATS,
    LINEARISERS,
    METHODS,
    METRICS,
    SCORES,
    TASKS,
    TRACKERS,
    Registry,
    _entry_points,
    _outside,
)
from tests.metrics.processes import run_python

REGISTRIES: dict[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (TASKS, METHODS, METRICS, ESTIMATORS, SCORES, LINEARISERS, EXPORT_FORMATS, TRACKERS)
}
EVERY = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]
HERE = "tests.test_registry"


class Base:
    """What the classes of the toy registry must come from."""


class Own(Base):
    """Registered by the toy registry itself."""


class Foreign(Base):
    """Brought by another package."""


class Unrelated:
    """Of another kind."""


INSTANCE = Foreign()


def toys(*, classes: bool = True) -> Registry[Any]:
    return Registry("toy", f"{HERE}:Base", {"own": f"{HERE}:Own", "odd": f"{HERE}:Unrelated"}, classes=classes)


def brought(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str, str | None]) -> None:
    """As if these (name, place, package) were installed as entry points of the toy registry's group."""

    def outside(group: str) -> tuple[Any, ...]:
        if group != "autolora.toys":
            return ()
        return tuple(
            SimpleNamespace(
                name=name,
                value=place,
                dist=package and SimpleNamespace(name=package),
                load=EntryPoint(name, place, group).load,
            )
            for name, place, package in entries
        )

    monkeypatch.setattr("autolora.registry._outside", outside)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_registered_name_loads_and_is_of_its_base(kind: str, name: str) -> None:
    registry = REGISTRIES[kind]
    found = registry.load(name)
    if not registry.base:
        assert callable(found)
        return
    module, _, attribute = registry.base.partition(":")
    base = getattr(import_module(module), attribute)
    assert issubclass(found, base) if registry.classes else isinstance(found, base)


def test_no_two_names_of_a_registry_stand_for_the_same() -> None:
    for registry in REGISTRIES.values():
        found = [registry.load(name) for name in registry]
        assert len({id(each) for each in found}) == len(found)


def test_a_metric_knows_its_name() -> None:
    assert [METRICS.load(name).name for name in METRICS] == list(METRICS)


def test_the_groups_of_other_packages_are_named_after_the_kinds() -> None:
    assert [registry.group for registry in REGISTRIES.values()] == [
        "autolora.tasks",
        "autolora.methods",
        "autolora.metrics",
        "autolora.estimators",
        "autolora.scores",
        "autolora.linearisers",
        "autolora.export_formats",
        "autolora.trackers",
    ]


@pytest.mark.parametrize("refuse", [METHODS.load, METHODS.check])
def test_an_unknown_name_is_answered_with_the_nearest_and_with_all_there_are(refuse: Any) -> None:
    with pytest.raises(UserError) as caught:
        refuse("autolroa")
    assert (
        str(caught.value) == f"there is no method 'autolroa'; did you mean 'autolora'?; there is: {', '.join(METHODS)}"
    )


def test_an_unknown_name_that_is_near_to_none_is_answered_with_all_there_are() -> None:
    with pytest.raises(UserError, match=r"^there is no task 'zzz'; there is: chat, classification, generation, "):
        TASKS.load("zzz")


def test_names_of_other_packages_come_after_our_own_and_are_loaded_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, ("foreign", f"{HERE}:Foreign", "toy-package"))
    registry = toys()
    assert list(registry) == ["own", "odd", "foreign"]
    assert len(registry) == 3
    assert "foreign" in registry
    assert "nobody's" not in registry
    assert registry.load("foreign") is Foreign
    assert registry.load("own") is Own
    with pytest.raises(UserError, match=r"did you mean 'foreign'\?; there is: own, odd, foreign$"):
        registry.load("foriegn")


@pytest.mark.parametrize("ask", ["load", "check"])
@pytest.mark.parametrize(
    ("name", "entries", "places", "packages"),
    [
        ("own", [("own", "toy:Own", "toy-package")], f"2 times ({HERE}:Own, toy:Own)", "toy-package"),
        ("new", [("new", "a:New", "one"), ("new", "b:New", "other")], "2 times (a:New, b:New)", "one, other"),
        ("new", [("new", "a:New", None), ("new", "b:New", None)], "2 times (a:New, b:New)", "a:New, b:New"),
    ],
)
def test_a_name_that_two_give_is_refused_with_both(
    ask: str,
    name: str,
    entries: list[tuple[str, str, str | None]],
    places: str,
    packages: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brought(monkeypatch, *entries)
    with pytest.raises(UserError) as caught:
        getattr(toys(), ask)(name)
    assert str(caught.value).startswith(f"the toy {name!r} is registered {places}; uninstall, or ")
    assert str(caught.value).endswith(f"what one of these packages brings: {packages}")


def test_a_name_that_two_give_is_counted_once_and_hinders_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, ("own", "toy:Own", "toy-package"))
    assert list(toys()) == ["own", "odd"]
    assert len(toys()) == 2
    with pytest.raises(UserError, match="must be a subclass"):
        toys().load("odd")


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("odd", True, f"the toy 'odd' ({HERE}:Unrelated) must be a subclass of {HERE}:Base, but it is <class "),
        ("made", True, f"the toy 'made' ({HERE}:INSTANCE) must be a subclass of {HERE}:Base, but it is <"),
        ("own", False, f"the toy 'own' ({HERE}:Own) must be an instance of {HERE}:Base, but it is <class "),
    ],
)
def test_what_is_of_another_kind_is_refused(
    name: str, classes: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(monkeypatch, ("made", f"{HERE}:INSTANCE", "toy-package"))
    with pytest.raises(UserError) as caught:
        toys(classes=classes).load(name)
    assert str(caught.value).startswith(message)


def test_an_instance_is_taken_where_instances_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, ("made", f"{HERE}:INSTANCE", "toy-package"))
    assert toys(classes=False).load("made") is INSTANCE


def test_what_is_no_function_is_refused_where_functions_are_registered() -> None:
    registry: Registry[Any] = Registry("trick", "", {"made": f"{HERE}:INSTANCE", "test": f"{HERE}:toys"}, classes=False)
    assert registry.load("test") is toys
    with pytest.raises(UserError, match=r"the trick 'made' \(.*:INSTANCE\) must be a function, but it is <"):
        registry.load("made")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no.such.module:Toy", "ModuleNotFoundError: No module named 'no'"),
        (f"{HERE}:Nothing", f"AttributeError: module '{HERE}' has no attribute 'Nothing'"),
    ],
)
def test_what_another_package_cannot_import_is_said_to_be_its_own(
    place: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(monkeypatch, ("broken", place, "toy-package"))
    registry = toys()
    assert "broken" in registry
    registry.check("broken")  # nothing is imported for it
    with pytest.raises(UserError) as caught:
        registry.load("broken")
    assert str(caught.value) == f"the toy 'broken' ({place}, of toy-package) cannot be imported: {message}"


def test_reading_the_names_imports_none_of_them() -> None:
    code = """
import sys
from autolora.registry import ESTIMATORS, EXPORT_FORMATS, LINEARISERS, METHODS, METRICS, SCORES, TASKS
for registry in (ESTIMATORS, EXPORT_FORMATS, LINEARISERS, METHODS, METRICS, SCORES, TASKS):
    for name in registry:
        registry.check(name)
print(sorted(name for name in sys.modules if name.startswith("autolora.") or name in ("torch", "transformers")))
"""
    done = run_python(code)
    assert done.stdout.strip() == "['autolora.errors', 'autolora.registry', 'autolora.words']", done.stderr


def test_installed_packages_are_looked_through_once_for_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []

    def entry_points() -> EntryPoints:
        looked.append(None)
        return EntryPoints([EntryPoint("mine", "a:b", "autolora.metrics"), EntryPoint("own", "c:d", "autolora.tasks")])

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    clear()
    try:
        assert "mine" in METRICS
        assert "mine" not in TASKS
        assert "own" in TASKS
        assert len(looked) == 1
    finally:
        clear()


def clear() -> None:
    for known in (_outside, _entry_points):
        known.cache_clear()
