from pathlib import Path

import pytest
from typer.testing import CliRunner

from autolora.cli.recipes import app
from autolora.errors import RecipeError, UserError
from autolora.experiment.preflight import lacks_only_data, load_recipe
from autolora.recipe import shipped as module
from autolora.recipe.load import dump_recipe, read_recipe
from autolora.recipe.shipped import find_recipe, recipe_files, recipes_folder, shipped
from autolora.runs.resolved import read_resolved

REPOSITORY = Path(__file__).resolve().parents[2]
VALID = "task: regression\ndescription: mine\nmodel: {name: a/b}\ndata: {hub: c/d}\n"


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with three shipped recipes."""
    for name in ("quickstart", "glue/cola", "glue-mini/cola"):
        file = tmp_path / "recipes" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(VALID)
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "autolora")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_recipes_are_shipped() -> None:
    assert "quickstart" in shipped()
    assert recipes_folder() == REPOSITORY / "recipes" or recipes_folder().name == "_recipes"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid_and_has_its_name(path: Path, request: pytest.FixtureRequest) -> None:
    if "bundled:" in path.read_text(encoding="utf-8"):
        request.getfixturevalue("minilm")
    recipe = read_recipe(path)
    if recipe.data.hub is None and recipe.data.generated is None:
        assert "--data-root DIR" in path.read_text(encoding="utf-8")
        with pytest.raises(RecipeError) as error:
            load_recipe(path)
        assert lacks_only_data(error.value)
    else:
        assert load_recipe(path) == recipe
    assert shipped()[recipe.name] == path
    assert recipe.description


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.yaml")), ids=lambda p: p.stem)
def test_a_run_of_every_shipped_recipe_can_be_opened_again(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_resolved(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_starts_with_the_command_that_runs_it(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").splitlines()[:15] if line.startswith("#")]
    assert any(f"autolora run {path.relative_to(REPOSITORY)}" in line for line in header)


def test_the_recipes_of_a_wheel_are_found_inside_the_package(ours: Path) -> None:
    (ours / "autolora").mkdir()
    (ours / "recipes").rename(ours / "autolora" / "_recipes")
    assert list(shipped()) == ["glue/cola", "glue-mini/cola", "quickstart"]
    assert load_recipe(shipped()["glue/cola"]).name == "glue/cola"


def test_a_package_without_recipes_says_so(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", ours / "a" / "b")
    with pytest.raises(UserError, match="the shipped recipes are missing: neither "):
        shipped()


@pytest.mark.parametrize("text", ["glue/cola", "glue/cola.yaml", "recipes/glue/cola.yaml", "recipes/glue/cola"])
def test_a_shipped_recipe_is_found_by_its_name(ours: Path, text: str) -> None:
    assert find_recipe(text) == ours / "recipes/glue/cola.yaml"


def test_a_file_is_found_before_a_shipped_name(ours: Path) -> None:
    Path("quickstart").mkdir()
    assert find_recipe("quickstart") == ours / "recipes/quickstart.yaml"
    Path("quickstart.yaml").write_text(VALID)
    assert find_recipe("quickstart.yaml") == Path("quickstart.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quikstart", "no recipe 'quikstart': neither a file nor a shipped recipe; did you mean 'quickstart'?"),
        ("cola", "did you mean 'glue/cola' or 'glue-mini/cola'?"),
        ("mine.yml", "did you mean 'mine.yaml'?"),
        ("zzz", "autolora recipes list shows what there is"),
        ("folder", "folder is a folder, not a recipe; it holds: folder/a.yaml"),
    ],
)
def test_an_unknown_recipe_is_answered_with_the_nearest_names(ours: Path, text: str, message: str) -> None:
    Path("mine.yaml").write_text(VALID)
    Path("folder").mkdir()
    Path("folder/a.yaml").write_text(VALID)
    with pytest.raises(UserError) as caught:
        find_recipe(text)
    assert message in str(caught.value)


def test_recipe_files_are_found_in_every_folder_below(ours: Path) -> None:
    assert len(recipe_files(ours)) == 3


def test_list_shows_name_task_model_and_what_is_needed_by_folder(ours: Path) -> None:
    lines = CliRunner().invoke(app, ["list"]).output.splitlines()
    rows = [line.split() for line in lines if line.startswith("  ")]
    assert [row[:3] for row in rows[:3]] == [
        ["quickstart", "regression", "b"],
        ["glue/cola", "regression", "b"],
        ["glue-mini/cola", "regression", "b"],
    ]
    assert lines[0] == "to begin with"
    assert max(map(len, lines)) <= 80


def test_show_prints_the_file(ours: Path) -> None:
    assert CliRunner().invoke(app, ["show", "glue/cola"]).output == VALID


def test_copy_writes_the_recipe_and_overwrites_only_when_forced(ours: Path) -> None:
    assert (
        "wrote cola.yaml; run it with: autolora run cola.yaml" in CliRunner().invoke(app, ["copy", "glue/cola"]).output
    )
    Path("cola.yaml").write_text("changed")
    with pytest.raises(UserError, match=r"cola\.yaml exists already; pass --force"):
        CliRunner().invoke(app, ["copy", "glue/cola"], catch_exceptions=False)
    assert Path("cola.yaml").read_text() == "changed"
    assert CliRunner().invoke(app, ["copy", "glue/cola", "--force"]).exit_code == 0
    assert Path("cola.yaml").read_text() == VALID


def test_copy_takes_a_folder_or_a_file_and_does_not_make_folders(ours: Path) -> None:
    Path("d").mkdir()
    CliRunner().invoke(app, ["copy", "quickstart", "d"], catch_exceptions=False)
    CliRunner().invoke(app, ["copy", "quickstart", "d/mine.yaml"], catch_exceptions=False)
    assert sorted(path.name for path in Path("d").iterdir()) == ["mine.yaml", "quickstart.yaml"]
    with pytest.raises(UserError, match="there is no folder e to copy to"):
        CliRunner().invoke(app, ["copy", "quickstart", "e/mine.yaml"], catch_exceptions=False)
    with pytest.raises(UserError, match="is the recipe itself"):
        CliRunner().invoke(app, ["copy", "d/mine.yaml", "d/mine.yaml", "--force"], catch_exceptions=False)


def test_validate_prints_each_recipe_and_exits_with_2_on_faults(ours: Path) -> None:
    whole = CliRunner().invoke(app, ["validate"])
    assert (whole.exit_code, whole.output.count(": ok")) == (0, 3)
    Path("bad").mkdir()
    Path("bad/one.yaml").write_text(VALID + "search: {rank: 0}\nsead: 1\n")
    Path("bad/two.yaml").write_text(VALID)
    mixed = CliRunner().invoke(app, ["validate", "bad", "quickstart"])
    assert mixed.exit_code == 2
    assert "bad/one.yaml:5: search.rank: must be at least 1, got 0 (from 1 to 65536: no layer" in mixed.output
    assert "bad/one.yaml:6: sead: unknown key (did you mean 'seed'?)\n" in mixed.output
    assert mixed.output.count(": ok") == 2
    assert "1 faulty recipe\n" in mixed.output


def test_validate_of_a_folder_without_recipes_is_an_error(ours: Path) -> None:
    Path("none").mkdir()
    with pytest.raises(UserError, match="the folder none has no recipe"):
        CliRunner().invoke(app, ["validate", "none"], catch_exceptions=False)
