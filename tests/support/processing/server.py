"""The HTTP server: records every call, answers the planned faults, and asks moto for the rest."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

from tests.support.processing.answers import json_answer, json_error, s3_error
from tests.support.processing.faults import Faults
from tests.support.processing.platform import PLATFORM_KEY
from tests.support.processing.records import ApiCall, Caller

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.support.processing.api import ProcessingApi

# Containers sign with a key of their own, so that calls show their origin.
CONTAINER_KEY = "container"
CLIENT_KEY = "testing"

_TARGETS = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "ServiceQuotasV20190624": "servicequotas",
}


@dataclass(frozen=True)
class _Target:
    """Service, action and object of a request, read from its headers and path."""

    service: str
    action: str
    access_key: str
    bucket: str = ""
    key: str = ""

    @classmethod
    def of(cls, request: Request) -> _Target:
        access_key, service = _credential(request.headers.get("Authorization", ""))
        prefix, _, action = request.headers.get("X-Amz-Target", "").partition(".")
        if action:
            return cls(_TARGETS.get(prefix, service), action, access_key)
        bucket, _, key = request.path.lstrip("/").partition("/")
        if service == "s3":
            return cls(service, request.method, access_key, bucket, key)
        return cls(service, _form_action(request) or request.method, access_key)

    @property
    def caller(self) -> Caller:
        return "container" if self.access_key == CONTAINER_KEY else "client"


class Endpoint:
    """The WSGI application in front of moto's."""

    def __init__(self, faults: Faults) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._faults = faults
        self.api: ProcessingApi | None = None
        self.calls: list[ApiCall] = []
        self.quotas: list[dict[str, Any]] | None = None  # None: moto answers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP request."""
        request = Request(environ)
        target = _Target.of(request)
        if request.path.startswith("/moto-api") or target.access_key == PLATFORM_KEY:
            return self._ask_moto(environ, start_response)
        if request.method == "PUT" and self._faults.take("plain put") is not None:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            environ.pop("HTTP_IF_MATCH", None)
        delay = self._faults.take("delay", target.action)
        if delay is not None:
            time.sleep(delay.seconds)
        answer = self._refusal(target, request) or self._own_answer(target, request)
        if answer is None:
            answer = Response.from_app(self._moto, environ, buffered=True)
        self._record(target, request, answer.status_code)
        if self._faults.take("lost response", target.action):
            _break_connection(environ)
        if target.service == "s3":
            silence = self._faults.take("silence", request.method, target.key)
            if silence is not None:
                silence.over.wait(silence.seconds)
            if target.key and self._faults.take("cut read", request.method, target.key):
                return _half_of(answer, environ, start_response)
        return answer(environ, start_response)

    def _ask_moto(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer

    def _refusal(self, target: _Target, request: Request) -> Response | None:
        if target.service == "s3":
            return self._s3_refusal(target, request)
        if self._faults.take("throttle", target.action):
            return json_error("ThrottlingException", "Rate exceeded")
        return None

    def _s3_refusal(self, target: _Target, request: Request) -> Response | None:
        if not target.access_key and self._faults.take("unsigned") is not None:
            request.get_data()
            return s3_error(403)
        refusal = self._faults.take("S3 refusal", request.method, target.key)
        if refusal is None:
            return None
        # Some clients take an answer before they have sent everything for a broken connection.
        request.get_data()
        return s3_error(refusal.status)

    def _own_answer(self, target: _Target, request: Request) -> Response | None:
        if target.action == "ListServiceQuotas" and self.quotas is not None:
            return json_answer({"Quotas": self.quotas})
        if self.api is None or target.service != "sagemaker":
            return None
        return self.api.answer(target.action, request)

    def _record(self, target: _Target, request: Request, status: int) -> None:
        call = ApiCall(
            service=target.service,
            action=target.action,
            status=status,
            caller=target.caller,
            method=request.method,
            bucket=target.bucket,
            key=target.key,
            prefix=request.args.get("prefix", ""),
        )
        self.calls.append(call)


class Server:
    """Serves an application on a loopback port, from construction to ``stop``."""

    def __init__(self, application: Endpoint, port: int) -> None:
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", port, application, threaded=True, request_handler=_QuietHandler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _QuietHandler(MotoRequestHandler):  # type: ignore[misc]  # moto has no types
    def log_request(self, *_: Any) -> None:
        """Say nothing of a request: there are thousands."""


def _credential(authorization: str) -> tuple[str, str]:
    """Access key and service of a signed request; S3 serves the unsigned ones."""
    _, found, scope = authorization.partition("Credential=")
    parts = scope.partition(",")[0].split("/")
    return (parts[0], parts[3]) if found and len(parts) >= 5 else ("", "s3")


def _form_action(request: Request) -> str | None:
    """The action of services that take forms, such as STS; leaves the body for moto to read."""
    body = request.get_data()
    request.environ["wsgi.input"] = io.BytesIO(body)
    return dict(parse_qsl(body.decode("utf-8", "replace"))).get("Action")


def _half_of(
    answer: Response, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Announce all of an answer's body, send half of it, and break the connection."""
    content = answer.get_data()
    start_response(answer.status, answer.get_wsgi_headers(environ).to_wsgi_list())
    yield content[: len(content) // 2]
    _break_connection(environ)


def _break_connection(environ: WSGIEnvironment) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError
