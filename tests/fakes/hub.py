"""A model hub on a local port: strict about what it serves, able to break off, and it counts what was asked.

What comes in: files by repository and name. What goes out: HTTP as huggingface_hub speaks it: model info with sizes and
hashes, HEAD and ranged GET of `resolve` addresses. Source: the client's own requests, huggingface_hub 2.4.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        self.files = files
        self.large = {name for repo in files.values() for name in repo if name.endswith((".safetensors", ".model"))}
        self.served: list[str] = []
        self.ranges: list[str] = []
        self.break_off: dict[str, int] = {}
        """Bytes after which the connection is dropped, once, by file name."""
        self.lies: dict[str, bytes] = {}
        """What is served in place of a file, while its stated hash stays."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub._resolve(self, body=False)

            def do_GET(self) -> None:
                if self.path.startswith("/api/models/"):
                    hub._info(self)
                else:
                    hub._resolve(self, body=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _info(self, request: BaseHTTPRequestHandler) -> None:
        repo = request.path.removeprefix("/api/models/").split("?")[0].split("/revision/")[0]
        if repo not in self.files:
            self._answer(request, 404, b"{}")
            return
        siblings = []
        for name, content in self.files[repo].items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if name in self.large:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        info = {
            "id": repo,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
        }
        self._answer(request, 200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path.split("?")[0])
        content = self.files.get(match[1], {}).get(match[3]) if match else None
        if content is None:
            self._answer(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        assert match
        name, etag = match[3], hashlib.sha256(content).hexdigest()
        content = self.lies.get(name, content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name in self.large:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        status, wanted = 200, request.headers.get("Range")
        if body:
            self.served.append(name)
        if body and wanted:
            self.ranges.append(f"{name} {wanted}")
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        dropped = self.break_off.pop(name, None) if body else None
        self._answer(request, status, content if body else b"", headers, len(content), dropped)

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
        dropped: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        if dropped is None:
            request.wfile.write(content)
            return
        request.wfile.write(content[:dropped])
        request.close_connection = True
