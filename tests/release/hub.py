"""A hub on this machine: what of the real one's API a push calls."""

import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

GOOD, READER = "hf_good", "hf_reader"
USERS = {GOOD: {"name": "me", "orgs": [{"name": "lab"}]}, READER: {"name": "me", "orgs": []}}
WHEN = "2026-01-01T00:00:00.000Z"
Answer = tuple[int, Any]


@dataclass
class Repo:
    """Branches are files by name, and the titles of their commits."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    titles: dict[str, list[str]] = field(default_factory=lambda: {"main": ["initial commit"]})

    def begin(self, branch: str) -> None:
        self.branches.setdefault(branch, dict(self.branches["main"]))
        self.titles.setdefault(branch, list(self.titles["main"]))


@dataclass
class Hub:
    """large: what of a file's name makes it a large one. refused: by what of a call's path, what it is answered.

    seen: every call, and the repositories that were public when it came. sent: bytes of large files.
    """

    large: str = r"\.safetensors$"
    repos: dict[str, Repo] = field(default_factory=dict)
    refused: dict[str, Answer] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, set[str]]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def answer(self, method: str, url: str, token: str, body: bytes) -> Answer:
        path = urlsplit(url).path
        self.seen.append((f"{method} {path}", {name for name, repo in self.repos.items() if not repo.private}))
        for part, answer in self.refused.items():
            if part in path:
                return answer
        if path.startswith("/lfs/"):
            self.objects[path.removeprefix("/lfs/")] = body
            self.sent += len(body)
            return 200, {}
        if token not in USERS:
            return 401, {"error": "Invalid credentials in Authorization header"}
        if token == READER and method != "GET":
            return 403, {"error": "you must have write access"}
        data = json.loads(body) if body and "/commit/" not in path else {}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", **USERS[token]}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(f"{data.get('organization', 'me')}/{data['name']}", data)
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [self._upload(of) for of in data["objects"]]}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(.+))?", path)
        assert found, path
        if (repo := self.repos.get(found[1])) is None:
            return 404, {"error": "Repository not found", "code": "RepoNotFound"}
        return self._of(found[1], repo, f"{method} {found[2] or ''}", data or body)

    def _create(self, name: str, data: dict[str, Any]) -> Answer:
        if name in self.repos:
            return 409, {"error": "You already created this model repo"}
        self.repos[name] = Repo(data["visibility"] == "private")
        return 200, {"url": f"{self.url}/{name}", "name": name}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What is there already is not sent again."""
        oid = wanted["oid"]
        return {**wanted, **({} if oid in self.objects else {"actions": {"upload": {"href": f"{self.url}/lfs/{oid}"}}})}

    def _of(self, name: str, repo: Repo, call: str, data: Any) -> Answer:
        verb, _, rest = unquote(call.split(" ", 1)[1]).partition("/")
        if call == "GET " or verb == "revision":
            siblings = [{"rfilename": file} for file in repo.branches["main"]]
            return 200, {"id": name, "sha": "0" * 40, "private": repo.private, "siblings": siblings}
        if verb == "settings":
            repo.private = data["visibility"] == "private"
        elif verb == "branch":
            if rest in repo.branches:
                return 409, {"error": "Reference already exists"}
            repo.begin(rest)
        elif verb == "discussions":
            repo.begin("refs/pr/1")
            return 200, _pull_request(name)
        elif verb == "commits":
            dated = {"authors": [{"user": "me"}], "date": WHEN, "message": ""}
            return 200, [{**dated, "id": str(i), "title": title} for i, title in enumerate(reversed(repo.titles[rest]))]
        elif rest not in repo.branches:
            return 404, {"error": f"Invalid rev id: {rest}", "code": "RevisionNotFound"}
        elif verb == "preupload":
            return 200, {"files": [self._mode(of["path"], repo.branches[rest].get(of["path"])) for of in data["files"]]}
        elif verb == "commit":
            return self._commit(name, repo, rest, data)
        return 200, {}

    def _mode(self, name: str, there: bytes | None) -> dict[str, Any]:
        large = re.search(self.large, name) is not None
        oid = None
        if there is not None:
            oid = hashlib.sha256(there).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(there) + there).hexdigest()  # noqa: S324
        return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def _commit(self, name: str, repo: Repo, branch: str, body: bytes) -> Answer:
        for line in map(json.loads, body.splitlines()):
            of = line["value"]
            if line["key"] == "header":
                repo.titles[branch].append(of["summary"])
            else:
                repo.branches[branch][of["path"]] = b64decode(of["content"]) if "content" in of else self.objects[of["oid"]]
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}


def _pull_request(name: str) -> dict[str, Any]:
    about = {"num": 1, "title": "t", "author": {"name": "me"}, "createdAt": WHEN, "status": "draft", "isPullRequest": True}
    return about | {
        "repo": {"name": name, "type": "model"},
        "changes": {"base": "refs/heads/main"},
        "filesWithConflicts": [],
        "events": [],
    }


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            code, content = hub.answer(self.command, self.path, token, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            if isinstance(content, dict) and "code" in content:
                self.send_header("X-Error-Code", content["code"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
