"""What the server answers, address by address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from ...case import Diagnosis, ReviewDecision
from ..api import GSCo
from ..auth import record_under_review
from ..records import ThreadRecord, ThreadSummary, Turn
from . import chat, schema
from .conversation import model_name
from .diagnosis_request import body_schema, read_diagnosis
from .docs_page import docs_router
from .earlier_evidence import EarlierEvidence
from .errors import ApiError, documented, invalid
from .json_route import JsonRoute
from .policy import ServerPolicy
from .readiness import Readiness
from .telemetry import Metrics

T = TypeVar("T")
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
_NO_CHANGE = ("image", "task", "question", "context", "group", "frame", "window")


def routes(gsco: GSCo, policy: ServerPolicy, metrics: Metrics, readiness: Readiness) -> APIRouter:
    """Make the routes over one installation."""
    router, evidence = APIRouter(route_class=JsonRoute), EarlierEvidence(gsco)
    router.include_router(docs_router())
    router.include_router(_operation(gsco, metrics, readiness))
    router.include_router(
        _openai(gsco, policy, metrics, evidence), responses=documented(400, 401, 403, 408, 413, 429)
    )
    router.include_router(
        _diagnosis(gsco, policy, metrics), responses=documented(400, 401, 403, 408, 413, 429)
    )
    router.include_router(
        _threads(gsco, policy, metrics, evidence), responses=documented(400, 401, 403, 404, 408, 413, 429)
    )
    return router


def _operation(gsco: GSCo, metrics: Metrics, readiness: Readiness) -> APIRouter:
    router = APIRouter(tags=["operation"], route_class=JsonRoute)

    @router.get("/healthz", summary="Whether the process lives")
    async def healthz() -> schema.Health:
        return schema.Health(status="alive")

    @router.get(
        "/readyz",
        summary="Whether the models are loaded",
        responses={503: {"model": schema.Health, "description": "Not yet, or loading failed."}},
    )
    async def readyz(response: Response) -> schema.Health:
        health = readiness.look()
        response.status_code = 200 if health.status == "ready" else 503
        return health

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented(401, 403, 429)},
    )
    async def numbers() -> Response:
        if gsco.monitor is not None:
            metrics.note_drift(gsco.monitor, gsco.fits)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _openai(gsco: GSCo, policy: ServerPolicy, metrics: Metrics, evidence: EarlierEvidence) -> APIRouter:
    router = APIRouter(tags=["chat"], route_class=JsonRoute)

    @router.get("/v1/models", summary="The agent, with its tools hidden or shown")
    async def models() -> schema.Models:
        return schema.Models(data=[schema.Model(id=name) for name in schema.MODELS])

    @router.get("/v1/models/{model}", summary="One of the models", responses=documented(404))
    async def model(model: str) -> schema.Model:
        if model_name(model) is None:
            raise ApiError(
                404, f"the model is unknown; available: {', '.join(schema.MODELS)}", "model_not_found"
            )
        return schema.Model(id=model)

    @router.post(
        "/v1/chat/completions",
        summary="A turn of a conversation",
        response_model=schema.Completion,
        responses={
            200: {"content": {"text/event-stream": {}}},  # OpenAPI 3.1 has no schema for a stream of events
            **documented(404, 409, 502, 503, 504),
        },
    )
    async def completions(
        body: schema.ChatRequest,
        request: Request,
        x_gsco_thread: Annotated[str | None, Header(max_length=128)] = None,
    ) -> schema.Completion | StreamingResponse:
        turn = await chat.begin(
            gsco, body, user=request.state.user, thread=x_gsco_thread, metrics=metrics, evidence=evidence
        )
        if not body.stream:
            return await chat.whole(turn, policy)
        events = chat.streamed(turn, policy, request.state.request)
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    return router


def _diagnosis(gsco: GSCo, policy: ServerPolicy, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["diagnosis"], route_class=JsonRoute)

    @router.post(
        "/v1/diagnose",
        summary="The fixed protocol on one case",
        description="As JSON with data URIs, or as a form with one or several files as `image`.",
        responses=documented(502, 503, 504),
        openapi_extra={"requestBody": body_schema()},
    )
    async def diagnose(request: Request, response: Response) -> Diagnosis:
        body, files = await read_diagnosis(request)
        images = [
            await asyncio.to_thread(gsco.images.put, file, frame=body.frame, window=body.window)
            for file in files
        ]
        words = {name: getattr(body, name) for name in ("question", "context") if getattr(body, name)}
        gsco.text_limits.check(words.values())
        if words and (body.task is None or gsco.tasks.get(body.task).kind.closed):
            # Words of the client's must not reach the prompt of a closed diagnosis.
            response.headers["x-gsco-ignored"], words = ", ".join(words), {}
        policies = body.model_dump(exclude_none=True, exclude=set(_NO_CHANGE))
        diagnosis = await _within(
            policy,
            gsco.adiagnose(
                images,
                task=body.task,
                group=body.group,
                **words,
                **policies,
            ),
        )
        metrics.count_diagnoses([diagnosis])
        return diagnosis

    return router


def _threads(gsco: GSCo, policy: ServerPolicy, metrics: Metrics, evidence: EarlierEvidence) -> APIRouter:
    router = APIRouter(tags=["threads"], route_class=JsonRoute)

    @router.get("/v1/threads", summary="The user's conversations, the latest first")
    async def listed(request: Request) -> list[ThreadSummary]:
        return await gsco.athreads(user=request.state.user)

    @router.get("/v1/threads/{thread}", summary="A conversation with all evidence and every review")
    async def exported(thread: Name, request: Request) -> ThreadRecord:
        return await gsco.consult(thread, user=request.state.user).aexport()

    @router.delete("/v1/threads/{thread}", summary="Delete a conversation", status_code=204)
    async def deleted(thread: Name, request: Request) -> None:
        await gsco.consult(thread, user=request.state.user).adelete()

    @router.post(
        "/v1/threads/{thread}/decision",
        summary="A person decides on the diagnosis under review",
        responses=documented(502, 503, 504),
    )
    async def decided(thread: Name, body: schema.DecisionRequest, request: Request) -> Turn:
        user = request.state.user
        turn = await _resumed(gsco, policy, metrics, body, user, user, thread)
        evidence.reviewed(user, turn.diagnoses)
        return turn

    @router.get("/v1/reviews", summary="Other users' conversations that wait for a reviewer")
    async def waiting(request: Request) -> list[ThreadSummary]:
        if not policy.reviewers.reviews_others(request.state.user):
            return []
        return await gsco.areviews(reviewer=request.state.user)

    @router.get("/v1/reviews/{owner}/{thread}", summary="One of them, while it waits")
    async def reviewed_record(owner: Name, thread: Name, request: Request) -> ThreadRecord:
        return await record_under_review(gsco, policy.reviewers, request.state.user, owner, thread)

    @router.post(
        "/v1/reviews/{owner}/{thread}/decision",
        summary="A reviewer decides on another user's diagnosis",
        responses=documented(502, 503, 504),
    )
    async def reviewed(owner: Name, thread: Name, body: schema.DecisionRequest, request: Request) -> Turn:
        turn = await _resumed(gsco, policy, metrics, body, request.state.user, owner, thread)
        evidence.reviewed(owner, turn.diagnoses)
        return turn

    return router


async def _resumed(
    gsco: GSCo,
    policy: ServerPolicy,
    metrics: Metrics,
    body: schema.DecisionRequest,
    user: str,
    owner: str,
    thread: str,
) -> Turn:
    policy.reviewers.check(user, owner)
    decision = _decision(body, policy.reviewers.signature(user, body.reviewer))
    turn = await _within(policy, gsco.consult(thread, user=owner).aresume(decision))
    metrics.count_diagnoses(turn.diagnoses)
    return turn


def _decision(body: schema.DecisionRequest, reviewer: str) -> ReviewDecision:
    """The decision under its reviewer's name.

    Raises:
        Problem: it does not say what it must.
    """
    try:
        return ReviewDecision.model_validate({**body.model_dump(), "reviewer": reviewer})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None


async def _within(policy: ServerPolicy, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(policy.seconds):
            return await work
    except TimeoutError:
        raise chat.too_slow(policy) from None
