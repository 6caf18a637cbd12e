"""Trackers follow a run: what they are sent, once each, whatever is interrupted; and no result depends on them."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.files import file_hash
from autolora.metrics.base import Score
from autolora.registry import TRACKERS
from autolora.runs.store import Run
from autolora.tasks.base import WHOLE
from autolora.tasks.scored import Scored
from autolora.trackers import journal as journals
from autolora.trackers.base import About, Tracker, environment
from autolora.trackers.content import _metrics as metrics_of
from autolora.trackers.follow import Tracking, following
from autolora.trackers.follower import Follower, Group
from autolora.trackers.journal import Journal
from autolora.trackers.mlflow import MLflow
from autolora.trackers.names import parse_trackers
from autolora.trackers.trackio import Trackio
from autolora.training import loop
from tests.laboratory import tiny_run

SHORT = ("search.steps=10", "retrain.steps=10", "search.log_every=2", "retrain.log_every=5")


class Recorder(Tracker):
    """Keeps what it is sent, draws random numbers as it likes, and fails when it is told to."""

    modules = ("json",)
    sent: ClassVar[list[tuple[str, str, Any, int]]] = []  # of all tracked runs: id, kind, content, step
    opened: ClassVar[list[str | None]] = []
    closed: ClassVar[list[tuple[str, str]]] = []
    fail_at: ClassVar[int | None] = None
    fails_to_open: ClassVar[bool] = False
    name = ""

    def place(self) -> str:
        return str(self.about.folder / "recorder")

    def open(self, run_id: str | None) -> str:
        if self.fails_to_open:
            raise ConnectionError("no server there")
        self.opened.append(run_id)
        self.name = run_id or self.about.name
        return self.name

    def _keep(self, kind: str, content: Any, step: int) -> None:
        random.random(), np.random.rand(), torch.rand(1)
        if self.fail_at is not None and len(self.sent) >= self.fail_at:
            raise OSError(28, "No space left on device")
        self.sent.append((self.name, kind, content, step))

    def config(self, values: Mapping[str, Any], text: str) -> None:
        self._keep("config", dict(values), 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._keep("scalars", dict(values), step)

    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        self._keep("histograms", {name: list(each) for name, each in values.items()}, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        self._keep("picture", (name, path.read_bytes()[:4]), step)

    def close(self) -> None:
        self.closed.append((self.name, self.ended))


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setitem(TRACKERS._own, "recorder", f"{__name__}:Recorder")
    monkeypatch.setattr(Recorder, "sent", [])
    monkeypatch.setattr(Recorder, "opened", [])
    monkeypatch.setattr(Recorder, "closed", [])
    monkeypatch.setattr(Recorder, "fail_at", None)
    monkeypatch.setattr(Recorder, "fails_to_open", False)
    return Recorder


def values(name: str, run_id: str | None = None) -> list[tuple[int, float]]:
    """Of a scalar, by step, as they were sent."""
    return [
        (step, content[name])
        for of, kind, content, step in Recorder.sent
        if kind == "scalars" and name in content and run_id in (None, of)
    ]


def logged(run: Run, log: str, name: str) -> list[tuple[int, float]]:
    lines = (run.path / log / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["step"], record[name]) for record in map(json.loads, lines)]


def results(run: Run) -> dict[str, str]:
    """Hashes of what a run is to give: ranks, weights, predictions, metrics, logs."""
    names = ("ranks.json", "evidence.safetensors", "log.jsonl", "adapter_model.safetensors", "metrics.json")
    found = [path for name in names for path in sorted(run.path.rglob(name))]
    return {
        path.relative_to(run.path).as_posix(): file_hash(path)
        for path in [*found, *(run.path / "predictions").iterdir()]
    }


def test_everything_is_sent_once(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    said: list[str] = []
    with following(run, ["recorder"], say=said.append):
        run_stages(run, context)
    assert said == [f"tracked by recorder: {run.path / 'tracking' / 'recorder'}"]
    assert values("search/train_loss") == logged(run, "search", "train_loss")
    assert values("search/validation_loss") == logged(run, "search", "validation_loss")
    assert values("retrain/train_loss") == logged(run, "retrain", "train_loss")
    assert values("retrain/weights_learning_rate") == logged(run, "retrain", "weights_learning_rate")
    row = json.loads((run.path / "metrics.json").read_text())[0]
    assert values("eval/validation/accuracy") == [(1, row["accuracy"])]
    config = [content for _, kind, content, _ in Recorder.sent if kind == "config"]
    assert len(config) == 1
    assert config[0]["search.rank"] == 4
    assert config[0]["retrain.weights.learning_rate"] == 5e-3
    pictures = {content for _, kind, content, _ in Recorder.sent if kind == "picture"}
    assert pictures == {("search/rank map", b"\x89PNG"), ("search/selection", b"\x89PNG")}
    shapes = {name: len(each) for _, kind, of, _ in Recorder.sent if kind == "histograms" for name, each in of.items()}
    assert shapes["search/selection"] == 16
    assert shapes["search/selection by layer/bert.encoder.layer.1.attention.self.value"] == 4
    assert shapes["search/scores/selection"] == 16
    assert shapes["search/final ranks"] == 4


def test_the_parts_of_a_split_stand_beside_the_whole_and_not_in_its_place(tmp_path: Path) -> None:
    parts = ({"type": WHOLE}, {"type": "Disease"}, {"categories": WHOLE}, {"categories": "unseen"})
    splits = ("test", "test", "dev", "dev")
    rows = [
        {"split": split, **Scored((Score("f1", 0.5 + i / 10, True, 0.0, 1.0),), part).row(), "total rank": 4}
        for i, (split, part) in enumerate(zip(splits, parts, strict=True))
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(rows), encoding="utf-8")
    assert {name: value for name, value in metrics_of(tmp_path / "metrics.json").items() if name.endswith("f1")} == {
        "eval/test/f1": 0.5,
        "eval/test/Disease/f1": 0.6,
        "eval/dev/f1": 0.7,
        "eval/dev/unseen/f1": 0.8,
    }


def test_no_result_depends_on_it(laboratory: Path, tmp_path: Path) -> None:
    alone, context = tiny_run(laboratory, tmp_path / "alone", "autolora", *SHORT)
    run_stages(alone, context)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    run, context = tiny_run(laboratory, tmp_path / "tracked", "autolora", *SHORT)
    with following(run, ["recorder"]):
        run_stages(run, context)
    assert Recorder.sent
    assert results(run) == results(alone)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


class KilledError(BaseException):
    """As if the process had been killed: nothing is tidied but what Python itself unwinds."""


def test_a_resumed_run_goes_on_with_the_same_tracked_run(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT, "search.checkpoint_every=3")
    advance = loop.Watch.look

    def killed(watch: loop.Watch) -> None:
        if len(values("search/train_loss")) == 4:  # steps 2, 4, 6, 8; the last checkpoint is of step 6
            raise KilledError
        advance(watch)

    monkeypatch.setattr(loop.Watch, "look", killed)
    with pytest.raises(KilledError), following(run, ["recorder"]):
        search(run, context)
    assert [step for step, _ in values("search/train_loss")] == [2, 4, 6, 8]
    monkeypatch.setattr(loop.Watch, "look", advance)
    run = Run.open(run.path)
    with following(run, ["recorder"]):
        run_stages(run, Context(run.recipe, show=False))
    assert values("search/train_loss") == logged(run, "search", "train_loss")
    assert Recorder.opened == [None, run.path.name]


def test_a_tracker_that_comes_late_is_sent_what_it_missed(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    search(run, context)
    with following(run, ["recorder"]):
        assert values("search/train_loss") == logged(run, "search", "train_loss")
        run_stages(run, context)
    sent = len(Recorder.sent)
    with following(run, ["recorder"]):
        pass
    assert len(Recorder.sent) == sent


def test_other_numbers_are_another_tracked_run(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    with following(run, ["recorder"]):
        run_stages(run, context)
    first, again = run.path.name, f"{run.path.name}-2"
    retrained = run.recipe.retrain.model_copy(update={"batch_size": 12})
    run.recipe = run.recipe.model_copy(update={"retrain": retrained})
    with following(run, ["recorder"]):
        retrain(run, Context(run.recipe, show=False), anew=True)
    assert values("retrain/train_loss", again) == logged(run, "retrain", "train_loss")
    assert values("search/train_loss", again) == values("search/train_loss", first)
    assert [step for step, _ in values("retrain/train_loss", first)] == [5, 10]


@pytest.mark.parametrize("fail_at", [0, 2, 10])
def test_a_tracker_that_fails_loses_no_run_and_catches_up(
    fail_at: int, laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    monkeypatch.setattr(Recorder, "fail_at", fail_at)
    with following(run, ["recorder"]):
        search(run, context)
    said = capsys.readouterr().err
    assert said.count("tracks") == 1
    assert "No space left on device" in said
    assert f"autolora run {run.path} --resume --track recorder" in " ".join(said.split())
    assert run.status()["state"] == "success"
    monkeypatch.setattr(Recorder, "fail_at", None)
    with following(Run.open(run.path), ["recorder"]):
        pass
    assert values("search/train_loss") == logged(run, "search", "train_loss")
    pieces = [(kind, step, str(content)) for _, kind, content, step in Recorder.sent]
    assert len(set(pieces)) == len(pieces)
    assert len([1 for _, kind, _, _ in Recorder.sent if kind == "config"]) == 1


def test_a_server_that_is_not_there_loses_no_run(
    laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "fails_to_open", True)
    run, context = tiny_run(laboratory, tmp_path, "lora:2", *SHORT)
    with following(run, ["recorder"]):
        run_stages(run, context)
    assert "no server there" in capsys.readouterr().err
    assert run.status()["state"] == "success"


def test_a_comparison_is_a_group(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", *SHORT)
    places: list[str] = []
    group = Group("tiny", tmp_path / "comparisons" / "tiny" / "tracking")
    with following(run, ["recorder"], group, places.append):
        run_stages(run, context)
    assert places == [f"tracked by recorder: {group.folder / 'recorder'}"]
    assert {of for of, *_ in Recorder.sent} == {f"tiny-lora-2-3-{run.path.name[:15]}"}
    with following(Run.open(run.path), ["recorder"], say=places.append):  # alone, where it was
        pass
    assert places[1] == places[0]


def test_a_tracked_run_has_a_name_that_a_folder_can_have(laboratory: Path, tmp_path: Path) -> None:
    words = [f"lora:2:targets={'+'.join(f'block_{i}_übersetzung' for i in range(n))}" for n in (40, 41)]
    group = Group("tiny", tmp_path / "tracking")
    runs = [tiny_run(laboratory, tmp_path, word)[0] for word in words]
    called = set[str]()
    for run in runs:
        follower = Follower(run, "recorder", group)
        follower.journal = Journal(run.path / "none.jsonl")
        called.add(follower._called())
    assert len(called) == 2
    assert all(len(name.encode()) < 200 and name.isascii() for name in called)


def test_passwords_and_tokens_of_a_server_are_not_shown(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "postgresql://ann:tul@ip@db.example/runs?write_token=9f&timeout=3"
    monkeypatch.setattr(Recorder, "place", lambda self: place)

    def no_server(self: Recorder, run_id: str | None) -> str:
        raise OSError(place)

    monkeypatch.setattr(Recorder, "open", no_server)
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    said: list[str] = []
    with following(run, ["recorder"], say=said.append):
        pass
    tracking = Tracking(("recorder",), Group("tiny", tmp_path))
    shown = "postgresql://ann:…@db.example/runs?write_token=…&timeout=3"
    assert said == [f"tracked by recorder: {shown}"]
    assert [*tracking.places()] == [("recorder", shown)]
    assert f"(OSError: {shown})" in " ".join(capsys.readouterr().err.split())


def test_mlflow_takes_fields_of_any_name_and_waits_for_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []

    def keep(*given: object) -> None:
        kept.append((given, os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")))

    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(log_text=keep))
    tracker = MLflow(About("tiny", "a", "", {}, tmp_path))
    tracker._started = SimpleNamespace(store_init_configuration=keep)
    tracker.config({"data.evaluation.test (hard).path": "x", "n" * 300: 1}, "text")
    assert kept == [
        (({"data.evaluation.test _hard_.path": "x", "n" * 250: "1"},), "1"),
        (("text", "recipe.yaml"), "1"),
    ]


def test_what_a_tracker_that_fails_has_open_is_closed_before_the_next_run(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (tiny_run(laboratory, tmp_path, "lora:2", seed=seed)[0] for seed in (1, 2))
    monkeypatch.setattr(Recorder, "fail_at", 0)
    with following(first, ["recorder"]):
        assert Recorder.closed == [(first.path.name, "cancelled")]
    monkeypatch.setattr(Recorder, "fail_at", None)
    with following(second, ["recorder"]):
        pass
    assert Recorder.closed == [(first.path.name, "cancelled"), (second.path.name, "success")]


def test_a_variable_that_is_set_to_nothing_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AUTOLORA_TEST_EMPTY", ""), ("AUTOLORA_TEST_GIVEN", "mine")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AUTOLORA_TEST_NONE", raising=False)
    names = ("AUTOLORA_TEST_EMPTY", "AUTOLORA_TEST_GIVEN", "AUTOLORA_TEST_NONE")
    with environment(**dict.fromkeys(names, "ours")):
        assert [os.environ.get(name) for name in names] == ["ours", "mine", "ours"]
    assert [os.environ.get(name) for name in names] == ["", "mine", None]
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR", "TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID"):
        monkeypatch.setenv(name, "")
    seen: list[object] = []
    started = SimpleNamespace(start=lambda: None, active_run=SimpleNamespace(info=SimpleNamespace(run_id="7")))
    accelerate = SimpleNamespace(MLflowTracker=lambda **given: seen.append(given["logging_dir"]) or started)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(set_tracking_uri=seen.append))
    monkeypatch.setitem(sys.modules, "accelerate.tracking", accelerate)
    about = About("tiny", "a", "", {}, tmp_path)
    assert MLflow(about).open(None) == "7"
    store = tmp_path / "mlflow"
    assert seen == [f"sqlite:///{(store / 'mlflow.db').as_posix()}", (store / "artifacts").as_uri()]
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace())
    Trackio(about)._enter()
    assert (tmp_path / "trackio").is_dir()


def test_half_a_line_of_a_journal_is_none(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "t.jsonl")
    kept.begin("id", "tracking")
    kept.note("search 1", "aa")
    kept.note("search 2", "bb")
    data = kept.path.read_bytes()
    kept.path.write_bytes(data[:-9])
    again = Journal(kept.path)
    assert (again.run_id, again.digest("search 1"), again.digest("search 2")) == ("id", "aa", "")
    again.note("search 2", "cc")
    assert Journal(kept.path).digest("search 2") == "cc"
    assert journals.digest_of({"b": 1, "a": 2}) == journals.digest_of({"a": 2, "b": 1})


def test_what_is_not_installed_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "modules", ("json", "a_package_that_is_not_there"))
    with pytest.raises(UserError, match=r"pip install 'autolora\[trackers\]'"):
        parse_trackers("recorder")
    monkeypatch.setattr(Recorder, "modules", ("a_package_that_is_not_there.inner",))
    with pytest.raises(UserError, match=r"a_package_that_is_not_there\.inner is not installed"):
        parse_trackers("recorder")
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        parse_trackers(["tensorbord"])


def test_names_are_taken_once_each() -> None:
    assert parse_trackers(["recorder,recorder", " recorder "]) == ("recorder",)
    assert parse_trackers(None) == ()
