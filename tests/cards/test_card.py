"""What a card says and when it is written; that it is somebody's own once edited; and that nothing private is in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from autolora.adapters.card_file import is_edited, sealed, write
from autolora.cards.about import read_about
from autolora.cards.again import card_of, text_of
from autolora.cards.metadata import eval_results
from autolora.cards.parcel import _check_leaks
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.line import run_stages
from autolora.experiment.retrain import retrain
from autolora.files import read_json
from autolora.runs.store import Run
from tests.cli.support import unmeasured
from tests.laboratory import tiny_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.methods.autolora._figures", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def done(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Context]:
    """To be read only."""
    steps = ("search.steps=3", "retrain.steps=3", "card.license=cc-by-4.0", "card.language=[en]")
    run, context = tiny_run(laboratory, tmp_path_factory.mktemp("runs"), "autolora", *steps)
    run_stages(run, context)
    return run, context


def card(run: Run) -> ModelCard:
    return ModelCard.load(run.path / "adapter" / "README.md")


def test_the_front_matter_is_what_the_hub_reads(done: tuple[Run, Context]) -> None:
    run, _ = done
    data = card(run).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("peft", "text-classification", "cc-by-4.0")
    assert data.language == ["en"]
    assert {"autolora", "lora"} <= set(data.tags)
    assert data.base_model is None  # it lies in a folder
    (row,) = read_json(run.path / "metrics.json")
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {name: row[name] for name in ("accuracy", "matthews_correlation")}
    assert {(r.dataset_type, r.dataset_name, r.dataset_split) for r in data.eval_results} == {
        ("custom", "data", "validation")
    }


def test_the_text_has_ranks_data_and_cost(done: tuple[Run, Context]) -> None:
    run, context = done
    text = card(run).text
    ranks = run.ranks()
    assert f"Total: {ranks.total}." in text
    for layer in ("0", "1"):
        inner = f"bert.encoder.layer.{layer}.attention.self"
        assert re.search(rf"^\| {layer} +\| +{ranks[f'{inner}.query']} \| +{ranks[f'{inner}.value']} \|$", text, re.M)
    assert context.hashes["train"][:16] in text
    stage = run.manifest()["stages"]["retrain"]
    assert re.search(rf"^\| parameters of the adapter +\| {ranks.parameters}\b", text, re.M)
    assert f"{stage['seconds']}" in text
    assert "cc-by-4.0. The pretrained model has a licence of its own." in text


def test_no_row_of_the_data_and_no_folder_is_in_it(done: tuple[Run, Context], laboratory: Path) -> None:
    run, _ = done
    text = (run.path / "adapter" / "README.md").read_text()
    for file in (laboratory / "data").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            assert json.loads(line)["sentence"] not in text
    assert str(laboratory) not in text
    assert str(run.path.parent) not in text


def test_the_same_run_gives_the_same_card_but_for_what_is_measured(
    done: tuple[Run, Context], laboratory: Path, tmp_path: Path
) -> None:
    again = text_of(done[0])
    assert again == text_of(done[0])
    steps = ("search.steps=3", "retrain.steps=3", "card.license=cc-by-4.0", "card.language=[en]")
    run, context = tiny_run(laboratory, tmp_path, "autolora", *steps)
    run_stages(run, context)
    assert unmeasured(text_of(run).encode()) == unmeasured(again.encode())
    assert (run.path / "adapter" / "README.md").read_text() == sealed(text_of(run))


def test_metrics_come_with_the_evaluation_and_go_with_a_new_training(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    run_stages_until_adapter(run, context)
    assert "Not evaluated yet." in card(run).text
    assert not card(run).data.get("eval_results")
    evaluate(run, context)
    assert "Not evaluated yet." not in card(run).text
    retrain(run, context, anew=True)
    assert "Not evaluated yet." in card(run).text
    listed = run.manifest()["files"]
    assert not [name for name in listed if name.endswith("README.md")]


def run_stages_until_adapter(run: Run, context: Context) -> None:
    from autolora.experiment.search import search

    search(run, context)
    retrain(run, context)


def test_somebodys_own_card_stays(laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    run_stages(run, context)
    path = run.path / "adapter" / "README.md"
    edited = path.read_text().replace("## Metrics", "Never for medicine.\n\n## Metrics")
    path.write_text(edited)
    retrain(run, context, anew=True)
    evaluate(run, context)
    assert path.read_text() == edited
    assert "has been edited and stays as it is; autolora card --anew writes a new one" in capsys.readouterr().err
    assert card_of(run) is None
    assert path.read_text() == edited
    assert card_of(run, ["card.license=mit"], anyway=True) == path
    assert (card(run).data.license, is_edited(path)) == ("mit", False)
    assert Run.open(run.path).recipe.card.license == "mit"


def test_a_run_of_an_earlier_version_gets_one(laboratory: Path, tmp_path: Path) -> None:
    """Its card is PEFT's empty form."""
    from peft import PeftModel

    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    run_stages(run, context)
    path = run.path / "adapter" / "README.md"
    path.unlink()
    PeftModel.from_pretrained(context.model(), run.path / "adapter").create_or_update_model_card(str(path.parent))
    assert "# Model Card for Model ID" in path.read_text()
    assert card_of(run) == path
    assert card(run).text.startswith("\n# tiny: lora:2") or card(run).text.startswith("# tiny: lora:2")


def test_without_an_adapter_there_is_no_card(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    with pytest.raises(UserError, match=r"has no adapter yet; run: autolora retrain"):
        card_of(run)


def test_a_form_that_somebody_has_filled_in_is_theirs(tmp_path: Path) -> None:
    from huggingface_hub import ModelCardData

    form = str(ModelCard.from_template(ModelCardData())) + "\n### Framework versions\n\n- PEFT 0.21.2"
    assert write(tmp_path, "# One")
    assert (tmp_path / "README.md").read_text() == sealed("# One")
    (tmp_path / "README.md").write_text(form)
    assert not is_edited(tmp_path / "README.md")
    (tmp_path / "README.md").write_text(form.replace("[More Information Needed]", "ours", 1))
    assert is_edited(tmp_path / "README.md")
    assert not write(tmp_path, "# Two")
    (tmp_path / "README.md").write_bytes(b"\xff")
    assert is_edited(tmp_path / "README.md")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("card.license=Apache 2", "card.license"),
        ("card.language=[English!]", "card.language"),
        ("card.x=1", "unknown key"),
    ],
)
def test_what_a_card_cannot_say_is_a_fault_of_the_recipe(
    said: str, message: str, laboratory: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        tiny_run(laboratory, tmp_path, "lora:2", said)


def test_a_recipe_that_says_nothing_of_cards_is_dumped_as_before(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    assert "card" not in run.recipe.model_dump(mode="json")


def test_a_folder_of_this_machine_is_found_and_what_only_looks_like_one_is_not() -> None:
    folders = {"your home folder": "/root"}
    for text in ("acme/rooted", "https://x.org/root/a", "/rootfs", "a/root-b"):
        _check_leaks("README.md", text.encode(), folders)
    for text in ("Made in /root.", "/root/runs", '"/root"', "file:///root/x", "(/root)"):
        with pytest.raises(UserError, match="names a folder of this machine, /root"):
            _check_leaks("README.md", text.encode(), folders)
    with pytest.raises(UserError, match="names a folder of this machine"):
        _check_leaks("config.json", rb'"C:\\Users\\ann\\m"', {"your home folder": "C:\\Users\\ann"})


def test_the_front_matter_has_the_scores_of_whole_splits_alone(done: tuple[Run, Context]) -> None:
    run, context = done
    about = read_about(run, None, context.family, evaluated=True)
    (row,) = about.rows
    parted = replace(about, rows=({**row, "domain": "all"}, {**row, "domain": "news", "accuracy": 0.0}))
    assert [each.metric_value for each in eval_results(parted)] == [each.metric_value for each in eval_results(about)]
