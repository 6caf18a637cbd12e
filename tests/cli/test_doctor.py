"""What `autolora doctor` looks at: each probe by itself, with what it looks for there and not."""

from __future__ import annotations

import json
import os
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from autolora.doctor import examine, machine, network, packages
from autolora.doctor.finding import Finding, probed
from autolora.model.cache import cached
from autolora.model.converted import cache_root
from autolora.training.compute import precision
from tests.cli.support import Call

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found = by_name(packages.extras())
    assert set(found) == {f"[{name}]" for name in project["optional-dependencies"]}
    assert dict(packages.requirements())[""] == project["dependencies"]


def test_the_extras_of_an_installed_package_are_those_of_its_metadata(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages.autolora, "__file__", str(tmp_path / "site" / "autolora" / "__init__.py"))

    class Told:
        def get_all(self, name: str) -> list[str]:
            assert name == "Provides-Extra"
            return ["stars", "moons"]

    monkeypatch.setattr(packages, "metadata", lambda name: Told())
    told = ["torch>=2", "no-such-package>=1; extra == 'stars'", 'torch>=99; extra == "moons"']
    monkeypatch.setattr(packages, "requires", lambda name: told)
    found = by_name(packages.extras())
    assert set(found) == {"[stars]", "[moons]"}
    assert found["[stars]"].text == "for no-such-package: no-such-package is not installed"
    assert found["[stars]"].remedy == "pip install 'autolora[stars]'"
    assert found["[moons]"].state == "note"
    assert "and should be >=99" in found["[moons]"].text
    assert by_name(packages.versions())["packages"].state == "ok"


def test_a_package_that_is_needed_and_is_not_there_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requirements", lambda: {"": ["no-such-package>=1"]})
    found = by_name(packages.versions())
    assert found["no-such-package"].state == "wrong"
    assert found["no-such-package"].remedy == "pip install 'no-such-package>=1'"


def test_precision_is_the_one_that_recipes_get() -> None:
    found = by_name(machine.devices())["precision"].text
    from autolora.training.compute import default_device

    assert f"model.dtype: auto is {precision('auto', default_device())} on" in found


def test_a_probe_that_fails_is_told_and_ends_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("first", "ok", "there")
        raise ImportError("libsomething.so: cannot open shared object file")

    first, second = probed("device", broken)
    assert first.text == "there"
    assert (second.what, second.state) == ("device", "wrong")
    assert "libsomething.so" in second.text
    monkeypatch.setattr(machine, "devices", broken)
    monkeypatch.setattr(network, "hub", lambda: iter(()))
    titles = dict(examine.examine(tmp_path))
    assert set(titles) == {"software", "machine", "folders", "models", "extras"}
    assert {"java", "git"} <= {finding.what for finding in titles["machine"]}


def test_java_that_is_missing_or_fails_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (missing,) = machine.java()
    assert (missing.state, missing.what) == ("note", "java")
    assert "METEOR" in missing.text
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho no licence >&2\nexit 1\n")
    program.chmod(0o755)
    (failing,) = machine.java()
    assert failing.state == "note"
    assert "fails: no licence" in failing.text
    program.write_text("#!/bin/sh\necho 'openjdk 21' >&2\n")
    assert next(machine.java()).state == "ok"


def test_locks_are_tried_where_runs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = by_name(machine.disk(tmp_path / "runs"))
    assert (found["locks"].state, found["runs"].state in ("ok", "note")) == ("ok", True)
    assert "(not there yet)" in found["runs"].text
    assert not list(tmp_path.iterdir())

    def refused(**options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refused)
    assert by_name(machine.disk(tmp_path))["runs folder"].state == "wrong"


def test_the_hub_is_asked_only_where_the_environment_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", None)
    (found,) = network.hub()
    assert "is not asked: HF_HUB_OFFLINE" in found.text


def test_a_hub_that_answers_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert next(network.hub()).state == "ok"
    assert "cannot be reached" in next(network.hub()).text
    monkeypatch.setattr(network, "SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: __import__("time").sleep(5))
    (found,) = network.hub()
    assert "is not found within 0.2 s" in found.text


def test_a_proxy_is_asked_instead_however_it_is_written_and_but_for_what_goes_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for written in (f"127.0.0.1:{port}", f"http://ann:tulip@127.0.0.1:{port}"):
            monkeypatch.setenv("https_proxy", written)
            (found,) = network.hub()
            assert found.state == "ok"
            assert f"the proxy 127.0.0.1:{port} on the way to https://hub.invalid answers" in found.text
            assert "tulip" not in found.text
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", "127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert network._way(constants.ENDPOINT) == ("127.0.0.1", port, False)


def test_the_command_says_it_in_words_and_in_json(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("doctor")
    assert code == 0
    assert "autolora can be used" in out
    code, out, _ = call("doctor", "--json")
    told = json.loads(out)
    assert (code, told["usable"]) == (0, True)
    assert {row["state"] for row in told["extras"]} <= {"ok", "note"}
    monkeypatch.setattr(packages, "requirements", lambda: {"": ["no-such-package>=1"]})
    code, out, _ = call("doctor")
    assert code == 2
    assert "1 thing is wrong" in out


def test_it_says_where_gguf_models_are_kept_and_whether_they_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path))
    root = cache_root()
    (found,) = machine.converted()
    assert (found.state, found.text) == ("ok", f"{root} (not there yet)")
    cached(root, {"sha256": "ab"}, lambda folder: (folder / "weights").write_bytes(b"x" * 2**20) and None)
    (found,) = machine.converted()
    assert (found.what, found.state) == ("gguf cache", "ok")
    assert found.text == f"{root}, 0.0 GiB of at most 8; remove the folder to empty it"
    if sys.platform != "win32":
        root.chmod(0o777)
        (found,) = machine.converted()
        assert found.state == "note"
        assert f"not used, GGUF models are read anew by every process: {root} can be entered by others" in found.text
        assert f"chmod 700 {root}" in found.text
