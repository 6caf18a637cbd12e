"""A hub in a thread: it speaks what huggingface_hub asks of it to make a repository and to commit to it, and keeps all.

with hub() as stub: …            # stub.url, stub.files(), stub.requests
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", ".bin")  # by LFS, as the hub's own .gitattributes have it


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stub:
    """What has arrived; `fails` may answer a request instead: a status, or None for a connection that is dropped."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    fails: Callable[[Request], int | bool | None] = lambda request: False

    def files(self) -> dict[str, bytes]:
        """Of the last commit."""
        return dict(self.commits[-1]["files"])

    def answer(self, request: Request) -> dict[str, Any]:
        path, body = request.path.partition("?")[0], request.body
        if path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said.get('organization') or 'someone'}/{said['name']}"
            return {"url": f"{self.url}/{name}", "id": name, "name": name}
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "someone", "auth": {}}
        if path == "/api/validate-yaml":
            return {"warnings": [], "errors": []}
        if "/branch/" in path:
            return {}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = {f["path"]: "lfs" if f["path"].endswith(LARGE) else "regular" for f in files}
            return {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.url}/upload/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        if found := re.fullmatch(r"/upload/([0-9a-f]{64})", path):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.objects[found[1]] = body
            return {}
        return self._commit(path, body) if "/commit/" in path else {}  # what else the client looks for, once in a day

    def _commit(self, path: str, body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        files: dict[str, bytes] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
        self.commits.append({"path": path, "message": lines[0]["value"]["summary"], "files": files})
        return {"commitOid": "0" * 40, "commitUrl": f"{self.url}/someone/tiny/commit/{'0' * 40}", "success": True}


@contextmanager
def hub() -> Iterator[Stub]:
    """A running one."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            request = Request(self.command, self.path, dict(self.headers), body)
            stub.requests.append(request)
            failure = stub.fails(request)
            if failure is False and request.method == "GET" and request.path.startswith("/api/models/"):
                failure = 404  # no repository is there yet
            if failure is None:
                self.close_connection = True
                self.connection.close()
                return
            status = 200 if failure is False else int(failure)
            said = stub.answer(request) if failure is False else {"error": f"a failure of kind {status}"}
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = do  # noqa: N815  # as http.server calls them

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
