"""Models: those that installed packages bring, and whether the hub can be reached."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from autolora.doctor.finding import Finding

SECONDS = 3.0  # for an answer of the hub
VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PORTS = {"http": 80, "https": 443}  # a proxy of another kind, socks5 for instance, has 1080
ELSE = "use bundled models, local folders, or what is in the cache"


def bundled() -> Iterator[Finding]:
    """The models that come with packages."""
    from autolora.errors import UserError
    from autolora.model.bundled import BUNDLED, bundled_folder

    for name, of in BUNDLED.items():
        try:
            yield Finding(f"bundled:{name}", "ok", str(bundled_folder(name)))
        except UserError:
            yield Finding(f"bundled:{name}", "note", f"{of.package} is not installed", of.install)


def hub() -> Iterator[Finding]:
    """Whether the hub answers within `SECONDS`, or the environment says that it is not asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        named = [name for name in VARIABLES if os.environ.get(name)]
        text = f"{constants.ENDPOINT} is not asked: {' and '.join(named) or VARIABLES[0]} is set"
        yield Finding("hub", "note", text, f"unset it to fetch models and data; else {ELSE}")
        return
    begun = time.monotonic()
    host, port, proxied = _way(constants.ENDPOINT)
    if (fault := _unreachable(host, port)) is None:
        who = f"the proxy {host}:{port} on the way to {constants.ENDPOINT}" if proxied else constants.ENDPOINT
        text = f"{who} answers, after {time.monotonic() - begun:.1f} s"
        yield Finding("hub", "ok", f"{text}; {_logged_in()}")
    else:
        yield Finding("hub", "note", f"{constants.ENDPOINT} cannot be reached: {fault}", ELSE)


def _way(endpoint: str) -> tuple[str, int, bool]:
    """Where a request for the hub goes first, and whether that is a proxy, as huggingface_hub finds it."""
    parts, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    proxied = bool(proxy) and not proxy_bypass(parts.hostname or "")
    if proxy and proxied:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 1080), proxied


def _unreachable(host: str, port: int) -> str | None:
    """Why; None where something listens there."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            socket.create_connection((host, port), timeout=SECONDS).close()
            found.append(None)
        except OSError as error:
            found.append(f"{host}: {error.strerror or error}")

    _within(ask)
    return found[0] if found else f"{host} is not found within {SECONDS:g} s"


def _within(ask: Callable[[], None]) -> None:
    """Names are looked up without a limit that could be set, so it is done aside."""
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS + 0.5)


def _logged_in() -> str:
    from huggingface_hub import get_token

    return "a token is there" if get_token() else "nobody is logged in (hf auth login)"
