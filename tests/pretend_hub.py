"""A Hugging Face hub on this machine: the endpoints that an upload and a download use, with the checks of the real one.

What it does not know it refuses and remembers in `strange`. It takes no file whose size or hash is not the announced
one, no commit of weights that it was not sent, and no card whose metadata is no model card's.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped, unused-ignore]

from tests.server import answering

Answer = tuple[int, Any]
OK: Answer = (200, {})


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """tokens: what each may do, `write` or `read`. All may write for the owner `someone`, and for nobody else."""

    tokens: dict[str, str] = field(default_factory=lambda: {"hf_writer": "write", "hf_reader": "read"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files that were sent, by SHA-256."""
    seen: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    address: str = ""

    def answer(self, method: str, path: str, token: str, body: bytes) -> Answer:
        """Status, and what is sent back: bytes, or something for JSON."""
        may = self.tokens.get(token, "")
        for pattern, reply in self.endpoints.items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                if token and not may:
                    return 401, "Invalid user token."
                if method in ("POST", "PUT") and "write" not in may and "validate-yaml" not in path:
                    return (403, "this token may only read") if may else (401, "Invalid username or password.")
                found: Answer = reply(self, *match.groups(), body=body, may=may)
                return found
        self.strange.append(f"{method} {path}")
        return 404, "no such endpoint"

    def create(self, *, body: bytes, may: str) -> Answer:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "someone":
            return 403, f"You don't have the rights to create a model under {asked['organization']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/{name}"}
        private = asked.get("private") or asked.get("visibility") == "private"
        self.repositories[name] = Repository(private)
        return 200, {"url": f"{self.address}/{name}"}

    def information(self, name: str, *, body: bytes, may: str) -> Answer:
        found = self.repositories.get(name)
        if found is None or (found.private and not may):
            return 404, "Repository not found"
        about = {"id": name, "modelId": name, "private": found.private, "sha": self.commit_of(name), "tags": []}
        return 200, about | {"downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in found.files]}

    def tree(self, name: str, *, body: bytes, may: str) -> Answer:
        found = self.repositories[name].files.items()
        return 200, [{"type": "file", "path": path, "size": len(c), "oid": _blob(c)} for path, c in found]

    def validate(self, *, body: bytes, may: str) -> Answer:
        text = json.loads(body)["content"]
        about = metadata(text)
        wrong = [f'"{key}" is missing' for key in ("tags", "pipeline_tag", "model-index") if key not in about]
        if "license" in about and about["license"] not in ("mit", "apache-2.0", "cc-by-4.0"):
            wrong.append(f'"license" must be one of [...], not {about["license"]}')
        for result in [result for model in about.get("model-index", []) for result in model["results"]]:
            whole = {"type", "name"} <= result["dataset"].keys() and result["task"]["type"] == "image-classification"
            if not whole or not all(0 <= metric["value"] <= 1 and metric["type"] for metric in result["metrics"]):
                wrong.append(f"a result is not whole: {result}")
        return (400, {"errors": [{"message": message} for message in wrong]}) if wrong else (200, {"warnings": []})

    def preupload(self, name: str, *, body: bytes, may: str) -> Answer:
        if name not in self.repositories:
            return 404, "Repository not found"
        files = json.loads(body)["files"]
        assert all(len(base64.b64decode(file["sample"])) <= file["size"] for file in files)
        modes = [(file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular") for file in files]
        return 200, {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}

    def batch(self, name: str, *, body: bytes, may: str) -> Answer:
        objects = json.loads(body)["objects"]
        for each in (each for each in objects if each["oid"] not in self.stored):
            each["actions"] = {"upload": {"href": f"{self.address}/lfs/{each['oid']}?size={each['size']}"}}
            each["actions"]["verify"] = {"href": f"{self.address}/lfs-verify"}
        return 200, {"transfer": "basic", "objects": objects}

    def put(self, oid: str, size: str, *, body: bytes, may: str) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid or len(body) != int(size):
            return 400, "not the bytes that were announced"
        self.stored[oid] = body
        return OK

    def verify(self, *, body: bytes, may: str) -> Answer:
        asked = json.loads(body)
        return OK if len(self.stored.get(asked["oid"], b"")) == asked["size"] else (404, "not stored")

    def commit(self, name: str, *, body: bytes, may: str) -> Answer:
        found, (head, *lines) = self.repositories[name], [json.loads(line) for line in body.splitlines()]
        files = dict(found.files)
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile" and value["oid"] in self.stored:
                files[value["path"]] = self.stored[value["oid"]]
            elif key == "deletedFile" and value["path"] in files:
                del files[value["path"]]
            else:
                return 400, f"cannot commit {key} {value['path']}"
        found.files = files
        found.commits.append(head["value"]["summary"])
        at = self.commit_of(name)
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{at}", "commitOid": at, "success": True}

    def commit_of(self, name: str) -> str:
        return hashlib.sha1(repr(self.repositories[name]).encode()).hexdigest()

    def unknown(self, *, body: bytes, may: str) -> Answer:
        return 404, "not here"

    endpoints: ClassVar[dict[str, Any]] = {
        r"GET /api/agent-harnesses": unknown,  # the library's own business
        r"POST /api/repos/create": create,
        r"GET /api/models/([\w.-]+/[\w.-]+)(?:/revision/\w+)?(?:\?.*)?": information,
        r"GET /api/models/([\w.-]+/[\w.-]+)/tree/\w+\?.*": tree,
        r"POST /api/validate-yaml": validate,
        r"POST /api/models/([\w.-]+/[\w.-]+)/preupload/main": preupload,
        r"POST /([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch": batch,
        r"POST /lfs-verify": verify,
        r"POST /api/models/([\w.-]+/[\w.-]+)/commit/main": commit,
    }


def metadata(card: str) -> dict[str, Any]:
    """What stands between the lines of dashes at the head of a card."""
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def _blob(content: bytes) -> str:
    """A file's name in git."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serves the hub on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.seen.append(f"{self.command} {self.path}")
            if match := re.fullmatch(r"/lfs/(\w+)\?size=(\d+)", self.path):  # signed: without a token
                status, given = hub.put(*match.groups(), body=body, may="write")
                self._send(status, given)
            elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/\w+/([\w.-]+)", self.path):
                self._file(*match.groups())
            else:
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                self._send(*hub.answer(self.command, self.path, token, body))

        do_GET = do_HEAD = do_POST = do_PUT = _do  # noqa: N815 - the base class's names

        def _file(self, name: str, path: str) -> None:
            found = hub.repositories.get(name)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if found is None or (found.private and token not in hub.tokens):
                self._send(404, "Repository not found", {"X-Error-Code": "RepoNotFound"})
            elif path not in found.files:
                self._send(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
            else:
                about = {"ETag": f'"{_blob(found.files[path])}"', "X-Repo-Commit": hub.commit_of(name)}
                self._send(200, found.files[path], about)

        def _send(self, status: int, given: Any, headers: dict[str, str] | None = None) -> None:
            content = given if isinstance(given, bytes) else json.dumps(given).encode()
            if isinstance(given, str):
                content, headers = b"", {"X-Error-Message": given, **(headers or {})}
                if status == 404 and "Repository" in given:
                    headers["X-Error-Code"] = "RepoNotFound"
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with answering(Handler) as hub.address:
        yield hub
