"""Whose paths a run's recipe has: those of a run that was made here, and those that the user says, are followed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.files import write_atomic
from autolora.recipe.load import dump_recipe, read_recipe
from autolora.recipe.schema import Recipe
from autolora.runs import store
from autolora.runs.reach import check_reach, local_paths, made_here
from autolora.runs.store import Run
from tests.laboratory import change_state, of_an_earlier_version


def recipe_of(data: Mapping[str, Any], model: str = "owner/base") -> Recipe:
    content = {"name": "tiny", "task": "classification", "model": {"name": model}, "data": dict(data)}
    return Recipe.model_validate(content)


FOLDERS = recipe_of({"path": "data", "root": "/theirs"}, "/their/model")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", FOLDERS)


@pytest.fixture
def theirs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same run, in the hands of another user."""
    monkeypatch.setenv("AUTOLORA_STATE", str(tmp_path / "another user"))
    return run


def read(run: Run, **given: Any) -> Recipe:
    return read_recipe(run.path / "recipe.yaml", **given)


@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        (FOLDERS, {"data.root": "/theirs", "model.name": "/their/model"}),
        (recipe_of({"path": "data"}), {"data.root": "."}),
        (recipe_of({"hub": "a/b", "root": "/theirs"}), {"data.root": "/theirs"}),
        (recipe_of({"hub": "a/b"}), {}),
        (recipe_of({"generated": "acceptability"}, "bundled:all-MiniLM-L6-v2"), {}),
        (recipe_of({"generated": "planted"}, "planted:mixed"), {}),
        (recipe_of({"hub": "a/b"}, "../x"), {"model.name": "../x"}),
        (recipe_of({"hub": "a/b"}, "~/x"), {"model.name": "~/x"}),
    ],
)
def test_what_of_a_recipe_is_a_path(recipe: Recipe, found: dict[str, str]) -> None:
    assert local_paths(recipe) == found


def test_a_run_that_was_made_here_says_what_it_likes(run: Run) -> None:
    assert made_here(run)
    check_reach(run, read(run))


def test_of_somebody_elses_run_no_path_is_followed(theirs: Run) -> None:
    assert not made_here(theirs)
    with pytest.raises(UserError) as caught:
        check_reach(theirs, read(theirs))
    said = str(caught.value)
    assert said.startswith(f"{theirs.path} does not count as made here: it has no mark of yours")
    assert said.endswith("data.root: /theirs and model.name: /their/model; give --data-root DIR --model PATH")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"data.root"}, "model.name: /their/model; give --model PATH"),
        ({"model.name", "data.path"}, "data.root: /theirs; give --data-root DIR"),
        ({"model"}, "data.root: /theirs; give --data-root DIR"),
        ({"mod", "data.roo", "search"}, "give --data-root DIR --model PATH"),
        ({"data", "model.name"}, None),
    ],
)
def test_what_the_command_line_says_is_followed(theirs: Run, said: set[str], left: str | None) -> None:
    if left is None:
        check_reach(theirs, read(theirs), said)
        return
    with pytest.raises(UserError, match=left):
        check_reach(theirs, read(theirs), said)


def test_what_the_users_own_recipe_says_is_followed(theirs: Run) -> None:
    check_reach(theirs, read(theirs), own=FOLDERS)
    with pytest.raises(UserError, match=r"read unless you say so: model.name: /their/model; give --model PATH$"):
        check_reach(theirs, read(theirs), own=recipe_of({"path": "data", "root": "/theirs"}, "/my/model"))


def test_what_lies_below_the_run_is_followed_and_no_more(theirs: Run, tmp_path: Path) -> None:
    for root, model, fine in (("./d", "./m", True), (".", "../m", False), ("d/../../x", "./m", False)):
        own = dump_recipe(recipe_of({"path": "data", "root": root}, model))
        write_atomic(theirs.path / "recipe.yaml", own)
        if fine:
            check_reach(theirs, read(theirs))
        else:
            with pytest.raises(UserError, match="does not count as made here"):
                check_reach(theirs, read(theirs))
    (theirs.path / "m").symlink_to(tmp_path)
    write_atomic(theirs.path / "recipe.yaml", dump_recipe(recipe_of({"hub": "a/b"}, "./m/x")))
    with pytest.raises(UserError, match="does not count as made here"):
        check_reach(theirs, read(theirs))


def test_names_of_the_hub_and_of_the_package_are_no_paths(theirs: Run) -> None:
    for recipe in (recipe_of({"hub": "a/b"}), recipe_of({"generated": "planted"}, "planted:mixed")):
        check_reach(theirs, recipe)


def test_an_edited_recipe_and_an_earlier_versions_run_have_no_mark(run: Run) -> None:
    write_atomic(run.path / "recipe.yaml", dump_recipe(FOLDERS).replace("/theirs", "/etc"))
    with pytest.raises(UserError, match=r"data\.root: /etc"):
        check_reach(run, read(run))
    write_atomic(run.path / "recipe.yaml", dump_recipe(FOLDERS))
    assert made_here(run)
    change_state(run.path / "manifest.json", made_here=[])
    assert not made_here(run)
    of_an_earlier_version(run.path)
    (run.path / "manifest.json").unlink()
    assert not made_here(run)


def test_a_mark_that_is_none_is_refused(run: Run) -> None:
    change_state(run.path / "manifest.json", made_here={"a": 1})
    with pytest.raises(UserError, match=r"manifest.json is not what autolora writes: made_here"):
        check_reach(run, read(run))


def test_the_recipe_that_a_stage_has_accepted_is_marked(theirs: Run) -> None:
    check_reach(theirs, read(theirs), {"data.root", "model.name"})
    theirs.save_recipe()
    assert made_here(theirs)
    theirs.recipe = recipe_of({"path": "data", "root": "/elsewhere"}, "/their/model")
    theirs.save_recipe()
    assert made_here(theirs)
    assert len(theirs.marks()) == 2
    assert not [path for path in theirs.path.iterdir() if path.suffix == ".tmp"]


def test_whoever_is_killed_while_the_recipe_is_written_finds_a_mark_that_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for root in ("/second", "/third"):
        run.recipe = recipe_of({"path": "data", "root": root})
        with monkeypatch.context() as patch:
            patch.setattr(store, "write_atomic", killed)
            with pytest.raises(KeyboardInterrupt):
                run.save_recipe()
        assert read(run).data.root == "/theirs"
        assert made_here(run)
    run.save_recipe()
    assert read(run).data.root == "/third"
    assert made_here(run)


def test_without_a_key_the_refusal_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOLORA_STATE", str(tmp_path / "file"))
    run = Run.create(tmp_path / "runs", FOLDERS)
    assert "made_here" not in run.manifest()
    with pytest.raises(UserError, match=r"--model PATH. Also, .*key.* can be neither read nor written"):
        check_reach(run, read(run))
