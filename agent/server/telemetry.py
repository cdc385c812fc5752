"""What operators see: one log line and a few numbers per request, and nothing of what was asked."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .auth_middleware import refuse
from .errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ...case import Diagnosis
    from ...graphs.collaboration_fit import CollaborationFit
    from ...graphs.drift import DriftMonitor
    from ...graphs.events import Event

LOG = logging.getLogger("gsco.server")
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Prometheus metrics of one server. Labels are names of routes, tasks and tools, never what was asked."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        from prometheus_client.gc_collector import GCCollector
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector

        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        of: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("gsco_requests", "Requests answered.", ["route", "method", "status"], **of)
        self.seconds = Histogram(
            "gsco_request_seconds", "Until the whole answer was out.", ["route"], buckets=_SECONDS, **of
        )
        self.running = Gauge("gsco_requests_running", "Requests being worked on.", **of)
        self.diagnoses = Counter("gsco_diagnoses", "Diagnoses made.", ["task", "abstained", "conflict"], **of)
        self.tools = Counter("gsco_tool_calls", "Tool calls of the generalist.", ["tool", "failed"], **of)
        self.drift = Gauge("gsco_drift_alarm", "1 where cases are unlike those of the fit.", ["task"], **of)
        self.watched = Gauge("gsco_drift_cases", "Cases watched since the fit.", ["task"], **of)
        self.reviews = Counter("gsco_reviews", "Times a person was asked to decide.", ["task"], **of)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def note_drift(self, monitor: DriftMonitor, fits: Callable[[str], CollaborationFit | None]) -> None:
        """Say how the watch of each task stands."""
        for task in monitor.tasks():
            fit = fits(task)
            self.drift.labels(task).set(monitor.alarm(task, fit) is not None)
            self.watched.labels(task).set(monitor.count(task, fit))

    def count_diagnoses(self, diagnoses: Iterable[Diagnosis]) -> None:
        """Count what was diagnosed."""
        for one in diagnoses:
            labels = (one.task, str(one.abstained).lower(), str(one.conflict.any).lower())
            self.diagnoses.labels(*labels).inc()

    def count_event(self, event: Event) -> None:
        """Count what happened in a conversation."""
        if event.kind == "tool_finished":
            self.tools.labels(event.name, str(event.failed).lower()).inc()
        elif event.kind == "review":
            self.reviews.labels(event.diagnosis.task).inc()
        elif event.kind == "final":
            self.count_diagnoses(event.diagnoses)


class TelemetryMiddleware:
    """Counts and logs every request, and answers with an error where the application fell over."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = uuid4().hex[:16]
        scope.setdefault("state", {})["request"] = request
        start, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            await send(message)

        try:
            with self._metrics.running.track_inprogress():
                await self._app(scope, receive, noting)
        except Exception as error:
            LOG.error("request %s failed: %s\n%s", request, type(error).__name__, where(error))
            if not status:
                await refuse(unexpected(request), noting)
        finally:
            self._note(scope, status, time.perf_counter() - start, request)

    def _note(self, scope: Scope, status: int, seconds: float, request: str) -> None:
        route = getattr(scope.get("route"), "path", "") or "other"
        known = scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
        method = scope["method"] if known else "other"
        self._metrics.requests.labels(route, method, str(status or "aborted")).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        user = scope["state"].get("user", "")
        LOG.info(
            "%s %s %s %.3f s user=%s request=%s", method, route, status or "aborted", seconds, user, request
        )


def unexpected(request: str) -> ApiError:
    """What a client is told of an error that nobody foresaw."""
    return ApiError(500, f"an internal error; the server's log has it as request {request}", "internal_error")


def where(error: BaseException) -> str:
    """Where an error came from: files, lines and functions; not its message, which may quote a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
