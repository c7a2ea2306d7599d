"""Figures for Prometheus: of requests as they pass, of models when asked."""

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import Scope

from api.routing import Route
from core.core import Core
from core.views import ModelView

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


class Metrics:
    """A registry for each app, so that two in one process do not mix."""

    def __init__(self, core: Core) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "berth_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "berth_request_seconds",
            "Time to the end of the answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_Models(core))

    def on_finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_of(scope)
        self._requests.labels(scope["method"], route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


def _route_of(scope: Scope) -> str:
    """The pattern, never the path: a client could make up as many of those as it likes."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is not None:
        return path
    return "page" if "endpoint" in scope else "none"


class _Models:
    """The models as they are at the moment of the scrape."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterator[Metric]:
        views = self._core.models()
        yield _gauge("berth_model_requests_waiting", "Requests waiting or running.", views, lambda view: view.waiting)
        served = CounterMetricFamily("berth_model_requests_served", "Requests answered.", labels=("model",))
        for view in views:
            served.add_metric((view.name,), view.served)
        yield served
        yield _gauge("berth_model_promised_bytes", "Memory promised before loading.", views, lambda view: view.promised)
        memory = GaugeMetricFamily("berth_model_memory_bytes", "Memory held.", labels=("model", "device"))
        state = GaugeMetricFamily("berth_model_state", "1 for the state it is in.", labels=("model", "state"))
        for view in views:
            state.add_metric((view.name, view.state.shown), 1)
            for device, held in view.measured.items():
                memory.add_metric((view.name, device), held)
        yield memory
        yield state


def _gauge(name: str, text: str, views: list[ModelView], value: Callable[[ModelView], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("model",))
    for view in views:
        family.add_metric((view.name,), value(view))
    return family


def router(metrics: Metrics) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["system"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def scrape() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
