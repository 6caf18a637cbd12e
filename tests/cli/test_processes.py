"""Two processes on one machine: they make one run, count every example once and agree with a single process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import Call, environment, lines, only_run, read, stage_states

STILL = ("--set", "search.lora_dropout=0", "--set", "search.steps=10", "--set", "retrain.steps=10", "--seed", "5")
STILL += ("--set", "search.selection.every=2")  # steps of both kinds


@pytest.fixture(scope="module")
def still(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose model has no dropout either; batches of 5, which two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("still")
    text = (laboratory / "tiny.yaml").read_text(encoding="utf-8")
    text = text.replace("./model", str(folder / "model")).replace("batch_size: 6", "batch_size: 5")
    (folder / "still.yaml").write_text(text.replace("path: data", f"root: {laboratory}\n  path: data"))
    (folder / "model").mkdir()
    for file in (laboratory / "model").iterdir():
        content = file.read_bytes()
        for name in (b"hidden_dropout_prob", b"attention_probs_dropout_prob"):
            content = content.replace(b'"%s": 0.1' % name, b'"%s": 0.0' % name)
        (folder / "model" / file.name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def shared(still: Path) -> Path:
    """The run of two processes."""
    # As accelerate launch does on GPUs; on a CPU it starts one process, whatever it is asked for.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = ["-m", "autolora", "run", "still.yaml", *STILL, "--output", "shared"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=still,
        env=environment(ACCELERATE_USE_CPU="true"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\nsearch: step 0 of 10") == 1, "only the main process speaks"
    return only_run(still / "shared", "still")


@pytest.fixture
def alone(call: Call, still: Path) -> Path:
    """The same run of one process."""
    code, _, err = call("run", still / "still.yaml", *STILL, "--output", still / "alone")
    assert code == 0, err
    return max((still / "alone" / "still").iterdir())


def test_two_processes_make_one_run(shared: Path) -> None:
    assert stage_states(shared) == {"search": "success", "retrain": "success", "eval": "success"}
    stages = read(shared / "manifest.json")["stages"]
    assert (stages["search"]["processes"], stages["retrain"]["processes"]) == (2, 2)
    assert [record["step"] for record in lines(shared / "search" / "log.jsonl")] == [7, 10]


def test_two_processes_count_every_example_once(shared: Path, call: Call) -> None:
    together = (shared / "metrics.json").read_bytes()
    predictions = lines(shared / "predictions" / "validation.jsonl")
    assert [line["index"] for line in predictions] == list(range(23))
    code, _, err = call("eval", shared)
    assert code == 0, err
    assert (shared / "metrics.json").read_bytes() == together
    again = lines(shared / "predictions" / "validation.jsonl")
    for line, other in zip(predictions, again, strict=True):
        assert line["logits"] == pytest.approx(other["logits"], abs=1e-6)


def test_two_processes_find_what_one_finds(shared: Path, alone: Path) -> None:
    assert read(shared / "search" / "ranks.json")["ranks"] == read(alone / "search" / "ranks.json")["ranks"]
    for stage, losses in {"search": ["train_loss", "validation_loss"], "retrain": ["train_loss"]}.items():
        ours, theirs = (lines(run / stage / "log.jsonl") for run in (shared, alone))
        for mine, other in zip(ours, theirs, strict=True):
            assert [mine[name] for name in losses] == pytest.approx([other[name] for name in losses], abs=1e-5)
    for ours, theirs in zip(*(lines(run / "predictions" / "validation.jsonl") for run in (shared, alone)), strict=True):
        assert ours["logits"] == pytest.approx(theirs["logits"], abs=1e-4)
