"""What the trackers themselves keep of an interrupted run: read back by their own readers, without a network."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from autolora.context.base import Context
from autolora.errors import RunError, UserError
from autolora.experiment.line import run_stages
from autolora.experiment.search import search
from autolora.runs.store import Run
from autolora.trackers.base import About, Ended
from autolora.trackers.follow import following
from autolora.trackers.follower import Group
from autolora.trackers.wandb import WandB
from autolora.training import loop
from tests.laboratory import tiny_run

SHORT = ("search.steps=6", "retrain.steps=4", "search.log_every=2", "retrain.log_every=2", "search.checkpoint_every=3")
GROUPED = "a comparison"


class KilledError(BaseException):
    """As if the process had been killed."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own environment, and a current folder to be looked at afterwards."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def interrupted(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str) -> Run:
    """A run that a tracker followed, with its search killed after step 4 (its checkpoint is of step 3), and gone on."""
    run, context = tiny_run(laboratory, tmp_path / "runs", "autolora", *SHORT)
    group = Group(GROUPED, tmp_path / "tracking")
    look, looks = loop.Watch.look, 0

    def killed(watch: loop.Watch) -> None:
        nonlocal looks
        looks += 1
        if looks == 4:  # at steps 2, 3, 4, and this is step 6
            raise KilledError
        look(watch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Watch, "look", killed)
        with pytest.raises(KilledError), following(run, [tracker], group):
            search(run, context)
    again = Run.open(run.path)
    with following(again, [tracker], group):
        run_stages(again, Context(again.recipe, show=False))
    assert not list((tmp_path / "here").iterdir())
    return again


def called(run: Run) -> str:
    """The tracked run's name in a comparison: recipe, method, seed, and when it was begun."""
    return f"tiny-autolora-3-{run.path.name[:15]}"


def logged(run: Run, log: str, name: str) -> list[tuple[int, float]]:
    lines = (run.path / log / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["step"], record[name]) for record in map(json.loads, lines)]


def accuracy(run: Run) -> float:
    return float(json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))[0]["accuracy"])


@pytest.fixture
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No tracker has failed in the test."""
    yield
    assert "no more" not in capsys.readouterr().err


@pytest.mark.usefixtures("quiet")
def test_tensorboard(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = interrupted(laboratory, tmp_path, monkeypatch, "tensorboard")
    everything = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
    read = reader.EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / called(run)), everything)
    read.Reload()
    for name in ("search/train_loss", "search/validation_loss", "search/selection_learning_rate", "retrain/train_loss"):
        found = [(event.step, event.value) for event in read.Scalars(name)]
        expected = logged(run, *name.split("/"))
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert [event.value for event in read.Scalars("eval/validation/accuracy")] == pytest.approx([accuracy(run)])
    selection = read.Histograms("search/selection")
    assert [event.step for event in selection] == [2, 4, 6]
    assert [event.histogram_value.num for event in selection] == [16, 16, 16]
    last = json.loads((run.path / "search" / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["selection"]
    assert selection[-1].histogram_value.sum == pytest.approx(sum(sum(each) for each in last.values()), rel=1e-6)
    assert len(read.Histograms("search/scores/selection")) == 1
    (picture,) = read.Images("search/rank map")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > 100
    (text,) = read.Tensors("recipe/text_summary")
    assert b"max_length: 128" in text.tensor_proto.string_val[0]


@pytest.mark.usefixtures("quiet")
def test_mlflow(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mlflow", "sqlalchemy", "alembic", "cryptography"):
        pytest.importorskip(module)
    from mlflow import MlflowClient

    run = interrupted(laboratory, tmp_path, monkeypatch, "mlflow")
    client = MlflowClient(f"sqlite:///{(tmp_path / 'tracking' / 'mlflow' / 'mlflow.db').as_posix()}")
    (experiment,) = [each for each in client.search_experiments() if each.name == run.recipe.name]
    (kept,) = client.search_runs([experiment.experiment_id])
    for name in ("search/train_loss", "search/validation_loss", "retrain/train_loss"):
        found = [(metric.step, metric.value) for metric in client.get_metric_history(kept.info.run_id, name)]
        assert found == logged(run, *name.split("/"))
    assert kept.data.metrics["eval/validation/accuracy"] == accuracy(run)
    assert kept.data.params["search.rank"] == "4"
    assert {kept.data.tags[name] for name in ("method", "seed", "group")} == {"autolora", "3", GROUPED}
    assert kept.info.status == "FINISHED"
    assert {each.path for each in client.list_artifacts(kept.info.run_id, "search")} == {
        "search/ranks.png",
        "search/selection.png",
    }
    folder = Path(client.download_artifacts(kept.info.run_id, "recipe.yaml"))
    assert "max_length: 128" in folder.read_text(encoding="utf-8")


@pytest.mark.usefixtures("quiet")
def test_trackio(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    run = interrupted(laboratory, tmp_path, monkeypatch, "trackio")
    (file,) = (tmp_path / "tracking" / "trackio").glob("*.db")
    with sqlite3.connect(file) as kept:
        rows = kept.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert {name for name, _, _ in rows} == {called(run)}
    records = [(step, json.loads(metrics)) for _, step, metrics in rows]
    for name in ("search/train_loss", "search/validation_loss", "retrain/train_loss"):
        assert [(step, of[name]) for step, of in records if name in of] == logged(run, *name.split("/"))
    histograms = [of["search/selection"] for step, of in records if "search/selection" in of and step < 6]
    assert [sum(each["values"]) for each in histograms] == [16, 16]


@pytest.mark.usefixtures("quiet")
def test_wandb(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    run = interrupted(laboratory, tmp_path, monkeypatch, "wandb")
    files = sorted((tmp_path / "tracking" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2  # of both processes, which wandb sync joins
    assert len({file.name for file in files}) == 1  # by the same id
    assert all(file.stat().st_size > 1000 for file in files)
    assert Run.open(run.path).status()["state"] == "success"


@pytest.mark.slow
def test_a_comparison_has_a_tracked_run_for_each_trial(laboratory: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    import autolora

    found = autolora.compare(
        laboratory / "tiny.yaml", "lora:1,lora:2", "0-1", output=tmp_path, track="tensorboard", retrain__steps=3
    )
    assert found.failed == 0
    folder = found.folder / "tracking" / "tensorboard"
    names = sorted(path.name.rsplit("-", 2)[0] for path in folder.iterdir())
    assert names == ["tiny-lora-1-0", "tiny-lora-1-1", "tiny-lora-2-0", "tiny-lora-2-1"]


def test_what_is_not_installed_is_said_before_a_run_is_begun(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    import autolora

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--track wandb: wandb is not installed.*autolora\[trackers\]"):
        autolora.run(laboratory / "tiny.yaml", output=tmp_path / "runs", track="wandb")
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("error", "status"), [(RunError("it diverged"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_mlflow_keeps_how_a_run_ended(error: BaseException, status: str, laboratory: Path, tmp_path: Path) -> None:
    for module in ("mlflow", "sqlalchemy", "alembic", "cryptography"):
        pytest.importorskip(module)
    from mlflow import MlflowClient

    run, _ = tiny_run(laboratory, tmp_path / "runs", "lora:2", *SHORT)
    with pytest.raises(type(error)), following(run, ["mlflow"]):
        raise error
    (file,) = (tmp_path / "runs").rglob("mlflow.db")
    client = MlflowClient(f"sqlite:///{file.as_posix()}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (kept,) = client.search_runs(experiments)
    assert kept.info.status == status


@pytest.mark.parametrize(("ended", "code"), [("success", 0), ("failed", 1), ("cancelled", 255)])
def test_wandb_is_told_how_a_run_ended(ended: Ended, code: int, tmp_path: Path) -> None:
    codes: list[int] = []
    tracker = WandB(About("tiny", "one", "", {}, tmp_path))
    tracker._started = SimpleNamespace(tracker=SimpleNamespace(finish=lambda exit_code: codes.append(exit_code)))
    tracker.ended = ended
    tracker.close()
    assert codes == [code]
