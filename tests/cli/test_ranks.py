"""``autolora ranks``: the table, the figure, the file, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from autolora.experiment.search import search
from autolora.lora.ranks import Ranks
from tests.cli.support import Call, contents, served, succeed
from tests.laboratory import tiny_run


@pytest.fixture(scope="module")
def searched(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of squeeze's, to be read only."""
    learns = ("retrain.weights.learning_rate=1e-2", "retrain.steps=120")
    run, context = tiny_run(laboratory, tmp_path_factory.mktemp("ranks"), "squeeze:budget=0.5", *learns)
    search(run, context)
    return run.path


@pytest.fixture
def mine(searched: Path, tmp_path: Path) -> Path:
    """A copy of it below runs/."""
    return Path(shutil.copytree(searched, tmp_path / "runs" / "tiny" / searched.name))


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_the_command_prints_json_and_leaves_nothing_but_the_figure(mine: Path) -> None:
    before = contents(mine)
    done = succeed("ranks", "--budget", "0.25", "--budget", "rank=1", "--json", cwd=mine.parents[2], by=served)
    found = json.loads(done.stdout, parse_constant=refuse)
    assert (found["score"], found["parameters"], found["initial_rank"]) == ("fisher", 1024, 4)
    assert [each["budget"] for each in found["asked"]] == [{"fraction": 0.25}, {"rank": 1}]
    assert [each["parameters"] for each in found["row"]] == [64, 128, 256, 512, 768, 1024]
    assert found["own"]["ranks"] == dict(Ranks.load(mine / "search" / "ranks.json"))
    asked = found["asked"][0]
    assert asked["parameters"] == 256
    assert asked["sum_of_ranks"] == sum(asked["ranks"].values())
    assert asked["ranks"] == {name: len(kept) for name, kept in asked["kept"].items()}
    assert (asked["measured_rise"], found["gain"]) == (None, None)
    after = contents(mine)
    assert after.keys() - before.keys() == {"search/curve.png"}
    assert all(after[name] == before[name] for name in before)
    assert done.stderr.splitlines()[-1] == f"wrote runs/tiny/{mine.name}/search/curve.png"
    with Image.open(mine / "search" / "curve.png") as image:
        image.verify()


def test_the_table_fits_80_columns_and_says_what_is_not_measured(
    call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call("ranks", mine, "--budget", "tolerance=0.2", "--measure")
    assert code == 0, err
    title, *lines = out.splitlines()
    assert title == f"{mine}: components by fisher, of 1024 parameters"
    assert [line for line in lines if len(line) > 80 and not line.startswith("Measured on ")] == []
    names = [line[:15].strip() for line in lines[3:11]]
    assert set(names) == {"0.0625", "0.125", "0.25", "0.5", "0.75", "1", "tolerance 0.2", "this run"}
    assert not [line for line in lines if "not measured" in line]
    assert [line for line in lines if line.startswith("Measured on 60 training examples: the loss is ")]
    assert "ranks at tolerance 0.2:" in lines
    assert [line for line in lines if line.split()[:1] == ["layer"]]
    code, again, _ = call("ranks", mine, "--budget", "tolerance=0.2")
    assert again == out
    code, more, _ = call("ranks", mine, "--budget", "parameters=200")
    assert "-: not measured; --measure does it, and keeps it in the run." in more.splitlines()
    assert code == 0


def test_the_ranks_go_into_a_file_that_is_read_as_ranks(call: Call, mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    code, _, err = call("ranks", mine, "--budget", "rank=1", "--output", file)
    assert code == 0, err
    assert f"wrote {file}\n" in err
    ranks = Ranks.load(file)
    assert ranks.parameters == 256
    assert ranks.rule["budget"] == {"rank": 1}
    assert set(ranks.to_lora_config().rank_pattern.values()) == {rank for rank in ranks.values() if rank}


@pytest.mark.parametrize("command", [("export",), ("ranks", "--budget", "0.5")])
@pytest.mark.parametrize("name", ["search/ranks.json", "adapter/adapter_config.json", "new.json"])
def test_nothing_is_written_into_a_run(call: Call, mine: Path, command: tuple[str, ...], name: str) -> None:
    before = (mine / name).read_bytes() if (mine / name).exists() else None
    code, _, err = call(command[0], mine, *command[1:], "--output", mine / name)
    assert (code, f"lies in the run {mine}, whose files are its own; name another place" in err) == (2, True), err
    assert ((mine / name).read_bytes() if (mine / name).exists() else None) == before


def test_the_configuration_of_an_adapter_is_not_written_over(call: Call, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    code, _, err = call("export", mine, "--output", tmp_path / "adapter_config.json")
    assert (code, "is the configuration of an adapter, which would be lost" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "x.json"), "--output: one --budget says which ranks are meant, got 0"),
        (("--output", ".", "--budget", "0.5"), "--output: . is a folder; name a file in it, such as ranks.json"),
        (("--output", "runs/x/y.json/z", "--budget", "0.5"), "cannot be written"),
        (("--budget", "size=3"), "budget: there is no budget 'size'; write budget=fraction=0.25"),
        (("--budget", "rank=0.5"), "budget rank: must be a whole number from 1, got 0.5"),
        (("--budget", "tolerance=0.1"), "has not been measured there yet, which has to be asked for: --measure"),
        (("--score", "fishr"), "there is no score 'fishr'; did you mean 'fisher'"),
        (("--score", "saliency"), "has: spectrum, fisher"),
    ],
)
def test_what_is_refused(
    call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(mine.parents[2])
    (mine.parents[1] / "x").mkdir()
    (mine.parents[1] / "x" / "y.json").write_text("", encoding="utf-8")
    code, out, err = call("ranks", mine, *arguments)
    assert (code, message in err) == (2, True), err
    assert "Traceback" not in err
    assert not (mine / "search" / "rises.json").exists()
    assert out == ""


def test_a_figure_that_cannot_be_written_takes_nothing_away(call: Call, mine: Path) -> None:
    (mine / "search" / "curve.png").mkdir()
    code, out, err = call("ranks", mine)
    assert (code, "this run" in out) == (0, True)
    assert f"{mine / 'search' / 'curve.png'} cannot be written" in err


def test_a_run_of_a_method_without_components_is_refused(call: Call, laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    code, _, err = call("ranks", run.path)
    assert code == 2
    assert "holds no search to read other ranks off: lora:2 values no components" in err
