"""The wheel is all of autolora: built, installed elsewhere and run from an empty folder."""

from __future__ import annotations

import json
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.packaging.support import REPOSITORY, Environment, build, install_beside_dependencies, run

pytest.importorskip("hatchling", reason="pip install 'autolora[dev]' brings what builds the wheel")
pytest.importorskip("pip", reason="this environment has no pip, which builds and installs the wheel")

SHORT = {
    "search.steps": 2,
    "search.batch_size": 8,
    "retrain.steps": 2,
    "retrain.batch_size": 8,
    "data.limits.train": 64,
    "data.limits.eval": 32,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REPOSITORY, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install_beside_dependencies(wheel, tmp_path_factory.mktemp("environment") / "venv")


def names(wheel: Path) -> set[str]:
    """The files in a wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


def assert_finished(folder: Path) -> None:
    """The quickstart's one run below a folder ended well and left its scores."""
    (quickstart,) = (folder / "runs" / "quickstart").iterdir()
    assert json.loads((quickstart / "status.json").read_text(encoding="utf-8"))["state"] == "success"
    assert "accuracy" in (quickstart / "metrics.json").read_text(encoding="utf-8")


def test_the_wheel_holds_every_module_every_recipe_and_the_licence_and_nothing_else(wheel: Path) -> None:
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "autolora").rglob("*.py")}
    modules |= {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "autolora").rglob("*.jinja")}
    recipes = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "recipes").rglob("*.yaml")}
    recipes.add("recipes/recipe.schema.json")
    info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert len(recipes) > 20
    assert names(wheel) == modules | {"autolora/py.typed"} | {f"autolora/_{recipe}" for recipe in recipes} | about


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path, cwd=REPOSITORY)
    (source,) = tmp_path.glob("*.tar.gz")
    assert names(build(source, tmp_path / "dist")) == names(wheel)


def test_the_installed_command_is_the_wheels_and_finds_its_recipes(
    installed: Environment, minilm: Path, tmp_path: Path
) -> None:
    where = run(installed.python, "-c", "import autolora; print(autolora.__file__)", cwd=tmp_path)
    assert Path(where.strip()) == installed.packages / "autolora" / "__init__.py"
    assert "glue-mini/mrpc" in run(installed.command, "recipes", "list", cwd=tmp_path)
    assert "glue-mini/mrpc" in run(installed.python, "-m", "autolora", "recipes", "list", cwd=tmp_path)


def test_the_installed_command_runs_the_quickstart_from_an_empty_folder(
    installed: Environment, minilm: Path, tmp_path: Path
) -> None:
    options = [part for field, value in SHORT.items() for part in ("--set", f"{field}={value}")]
    assert not any(tmp_path.iterdir())
    run(installed.command, "run", "quickstart", *options, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert_finished(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_wheel_of_pips_own_making_installs_all_it_needs_and_runs_the_whole_quickstart(tmp_path: Path) -> None:
    """As a user does it: pip wheel ., a new environment, pip install, autolora run quickstart. Needs an index."""
    venv.create(tmp_path / "venv", with_pip=True)
    environment = Environment(tmp_path / "venv")
    pip: list[str | Path] = [environment.python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, REPOSITORY, cwd=tmp_path, seconds=600)
    (wheel,) = tmp_path.glob("*.whl")
    pins = REPOSITORY / "constraints.txt"
    run(*pip, "install", "--constraint", pins, f"{wheel}[bundled]", cwd=tmp_path, seconds=1800)
    (tmp_path / "empty").mkdir()
    run(environment.command, "run", "quickstart", cwd=tmp_path / "empty", seconds=1800)
    assert_finished(tmp_path / "empty")
