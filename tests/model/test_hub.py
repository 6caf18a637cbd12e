"""A hub that does not answer is not asked again and again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from autolora.model import hub
from autolora.model.explain import is_local
from autolora.model.hub import hub_or_cache

NOWHERE = "http://127.0.0.1:9"  # the port of a service that throws away what it is sent, and that nobody has


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_answered", set())


@pytest.fixture
def served() -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that knows nothing, and what it was asked."""
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_without_a_network_the_cache_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    with hub_or_cache() as answered:
        assert (answered, constants.HF_HUB_OFFLINE) == (False, True)
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked_as_ever(served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, asked = served
    monkeypatch.setattr(constants, "ENDPOINT", address)
    for _ in range(2):
        with hub_or_cache() as answered:
            assert answered
            assert not constants.HF_HUB_OFFLINE
    assert len(asked) == 1  # once a process


@pytest.mark.parametrize("name", ["bundled:all-MiniLM-L6-v2", "planted:mixed", "/models/mine"])
def test_models_that_are_here_ask_nobody(name: str) -> None:
    assert is_local(name)
