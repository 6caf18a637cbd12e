"""Runs sent to a hub: what arrives, what is refused before anything is sent, and what is said when the hub fails."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from autolora.experiment.line import run_stages
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.cards.cases import predictions
from tests.cards.hub import Stub, hub
from tests.cli.support import Call
from tests.laboratory import change_state, tiny_run

TOKEN = "hf_thisIsAPlaceholderThatNobodyHas"
BASE = "someone/tiny-bert"


@pytest.fixture(scope="module")
def over(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended. To be read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autolora.methods.autolora._figures", lambda *_: None)
        folder = tmp_path_factory.mktemp("over")
        run, context = tiny_run(laboratory, folder, "autolora", "search.steps=3", "retrain.steps=3")
        run_stages(run, context)
    return run.path


@pytest.fixture
def copied(over: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(over, tmp_path / "runs" / "tiny" / over.name))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """The hub that commands speak to, with a user who is logged in."""
    with hub() as made:
        online(monkeypatch, made.url)
        yield made


def online(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own attempts
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def state(run: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_what_belongs_arrives_byte_for_byte(copied: Path, call: Call, stub: Stub) -> None:
    before = state(copied)
    code, out, err = call("push", copied, "someone/tiny", "--base-model", BASE, "--private", "--message", "First")
    assert code == 0, err
    assert f"sent: {stub.url}" in out
    assert state(copied) == before
    files = stub.files()
    adapter = copied / "adapter"
    assert set(files) == {
        *("adapter_config.json", "adapter_model.safetensors", "config.json", "README.md"),
        *("ranks.json", "metrics.json"),
    }
    for name in ("adapter_model.safetensors", "config.json"):
        assert files[name] == (adapter / name).read_bytes()
    assert files["metrics.json"] == (copied / "metrics.json").read_bytes()
    assert files["ranks.json"] == (copied / "search" / "ranks.json").read_bytes()
    config = json.loads(files["adapter_config.json"])
    assert config == {
        **json.loads((adapter / "adapter_config.json").read_bytes()),
        **{"base_model_name_or_path": BASE, "revision": None},
    }
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == BASE
    assert f"base_model:adapter:{BASE}" in card.data.tags
    assert 'adapter = "someone/tiny"' in card.text
    assert str(adapter / "x")[:-2] not in card.text
    assert stub.commits[0]["message"] == "First"
    (made,) = [json.loads(r.body) for r in stub.requests if r.path == "/api/repos/create"]
    assert (made["name"], made["organization"], made["visibility"]) == ("tiny", "someone", "private")
    assert [len(stub.commits), stub.commits[0]["path"]] == [1, "/api/models/someone/tiny/commit/main"]


def test_the_token_is_in_one_header_and_nowhere_else(copied: Path, call: Call, stub: Stub, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{TOKEN}2\n")
    code, out, err = call("push", copied, "someone/tiny", "--base-model", BASE, "--token-file", secret, "--debug")
    assert code == 0
    assert TOKEN not in out + err
    for request in stub.requests:
        assert TOKEN.encode() not in request.body
        assert TOKEN not in request.path
        named = {name for name, value in request.headers.items() if TOKEN in value}
        assert named <= {"Authorization", "authorization"}
        if named:
            assert request.headers[named.pop()] == f"Bearer {TOKEN}2"
    assert not [name for name, content in state(copied).items() if TOKEN.encode() in content]


def test_a_branch_is_made(copied: Path, call: Call, stub: Stub) -> None:
    assert call("push", copied, "someone/tiny", "--base-model", BASE, "--revision", "try/one")[0] == 0
    assert [r.path for r in stub.requests if "/branch/" in r.path] == ["/api/models/someone/tiny/branch/try%2Fone"]
    assert stub.commits[0]["path"] == "/api/models/someone/tiny/commit/try%2Fone"


def test_a_dry_run_lists_files_and_sends_nothing(copied: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)  # whoever opens one ends here
    before = state(copied)
    code, out, _ = call("push", copied, "someone/tiny", "--base-model", BASE, "--dry-run")
    assert code == 0
    size = (copied / "adapter" / "adapter_model.safetensors").stat().st_size
    assert re.search(rf"\b{size:,} bytes  adapter_model.safetensors$", out, re.MULTILINE)
    assert "predictions" not in out
    assert state(copied) == before


@pytest.mark.parametrize(
    ("status", "where", "said"),
    [
        (401, "/api/repos/create", "answered 401.*the hub does not take the token"),
        (403, "/api/repos/create", "answered 403.*the token may not write there"),
        (409, "/commit/", "answered 409.*somebody else has changed the repository"),
        (500, "/commit/", "answered 500.*the hub has failed; try again later"),
        (403, "/preupload/", "answered 403.*the token may not write there"),
        (500, "/upload/", "answered 500.*the hub has failed"),
        (None, "/commit/", "cannot be reached"),
        (None, "/api/repos/create", "cannot be reached"),
    ],
)
def test_what_the_hub_says_is_one_message_and_nothing_changes(
    status: int | None, where: str, said: str, copied: Path, call: Call, stub: Stub
) -> None:
    stub.fails = lambda request: status if where in request.path else False
    before = state(copied)
    code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE)
    assert code == 2
    assert re.search(rf"^autolora: someone/tiny: .*{said}", err, re.MULTILINE), err
    assert "Nothing here has changed" in err
    assert "Traceback" not in err
    assert TOKEN not in err
    assert state(copied) == before
    assert not stub.commits


def test_no_network_is_one_message(copied: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        online(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}")  # where nobody listens
        code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE)
    assert code == 2
    assert re.search(r"autolora: someone/tiny: making the repository: http://127\S+ cannot be reached", err), err


def test_offline_says_what_it_would_have_sent(copied: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE)
    assert code == 2
    assert "HF_HUB_OFFLINE is set, so nothing is sent; it would be, to someone/tiny: adapter_config.json (" in err


@pytest.mark.parametrize("name", ["a/b/c", "../x", "someone/ti ny", "someone/-tiny", "someone/a--b", "someone/t.git"])
def test_a_name_that_cannot_be_is_refused(name: str, copied: Path, call: Call, stub: Stub) -> None:
    code, _, err = call("push", copied, name, "--base-model", BASE)
    assert (code, stub.requests) == (2, [])
    assert "is no name of a repository" in err


def test_a_folder_of_this_machine_is_not_told_to_the_world(copied: Path, call: Call, stub: Stub) -> None:
    code, _, err = call("push", copied, "someone/tiny")
    assert (code, stub.requests) == (2, [])
    assert "names the pretrained model by a folder of this machine" in err
    assert "--base-model OWNER/NAME" in err
    card = copied / "adapter" / "README.md"
    card.write_text(card.read_text() + f"\nMade in {copied.resolve()}.\n")
    code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE)
    assert (code, stub.requests) == (2, [])
    assert "README.md names a folder of this machine" in err


def test_no_token_is_said_before_anything_is_sent(
    copied: Path, call: Call, stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE)
    assert (code, stub.requests) == (2, [])
    assert "hf auth login" in err
    (tmp_path / "two").write_text("one two")
    code, _, err = call("push", copied, "someone/tiny", "--base-model", BASE, "--token-file", tmp_path / "two")
    assert (code, stub.requests) == (2, [])
    assert "must have the token in it, and nothing else" in err


def test_what_has_not_ended_or_is_damaged_is_refused(copied: Path, call: Call, stub: Stub, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copied, tmp_path / "other"))
    weights = other / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "is not what was written" in _refused(other, call, stub)
    weights.unlink()
    assert "is missing" in _refused(other, call, stub)
    status = json.loads((copied / "status.json").read_text())
    change_state(copied / "status.json", stages={name: status["stages"][name] for name in ("search", "retrain")})
    assert "has not ended: eval is still to do" in _refused(copied, call, stub)


def test_what_compress_and_merge_write_is_sent_too(over: Path, call: Call, stub: Stub, tmp_path: Path) -> None:
    assert call("compress", over, "--budget", "0.5", "--output", tmp_path / "small")[0] == 0
    assert call("push", tmp_path / "small", "someone/small", "--base-model", BASE)[0] == 0
    files = stub.files()
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "README.md", "ranks.json"} == set(files)
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == BASE
    card = ModelCard(files["README.md"].decode())
    assert "## Made smaller" in card.text
    assert "Not measured." in card.text
    assert not card.data.get("eval_results")
    total = sum(json.loads(files["ranks.json"])["ranks"].values())
    assert f"Total: {total}." in card.text

    assert call("merge", over, "--output", tmp_path / "merged")[0] == 0
    assert call("push", tmp_path / "merged", "someone/merged")[0] == 0
    files = stub.files()
    assert "merged.json" not in files
    assert files["model.safetensors"] == (tmp_path / "merged" / "model.safetensors").read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert (card.data.library_name, card.data.eval_results is not None) == ("transformers", True)
    assert 'adapter = "someone/merged"' in card.text
    code, _, err = call("push", tmp_path, "someone/other")
    assert code == 2
    assert "is no run, and no folder that autolora compress or autolora merge wrote" in err


def test_the_code_of_a_merged_model_says_what_the_run_has_said(
    over: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("merge", over, "--output", tmp_path / "merged")[0] == 0
    records = read_result(Run.open(over)).predictions("validation")
    rows = [json.loads(line) for line in (_data(over) / "validation.jsonl").read_text().splitlines()]
    found = predictions(tmp_path / "merged", [row["sentence"] for row in rows], monkeypatch)
    assert found == [record["prediction_name"] for record in records]


def _data(run: Path) -> Path:
    data = Run.open(run).recipe.data
    return Path(str(data.root)) / str(data.path)


def _refused(run: Path, call: Call, stub: Stub) -> str:
    code, _, err = call("push", run, "someone/tiny", "--base-model", BASE)
    assert (code, stub.requests) == (2, [])
    return err
