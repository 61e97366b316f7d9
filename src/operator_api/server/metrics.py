"""What the server counts, for Prometheus, under OpenTelemetry's names.

A request costs a microsecond: it is counted in plain numbers, and what a scrape asks for is put
together when it asks. Labels come from the tables of operations and errors alone, so that nothing
that a caller sends makes a series.
"""

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from operator_api import __version__
from operator_api.contract.errors import RATE_LIMITED, TOO_MANY_FAILED_AUTHENTICATIONS
from operator_api.server.exchange import Exchange, Response

# The bounds that OpenTelemetry advises, and three below them: most answers take less.
_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_NANOSECONDS = [int(bound * 1e9) for bound in _SECONDS]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The last bucket is what is longer; behind it is the sum.
_EMPTY = [0] * (len(_SECONDS) + 2)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_DURATION = "http.server.request.duration", "http_server_request_duration_seconds"
_LABELS = ("http_request_method", "http_route", "http_response_status_code", "error_type")
_LIMITED = {RATE_LIMITED.reason: "token", TOO_MANY_FAILED_AUTHENTICATIONS.reason: "address"}

_Series = tuple[str, str, int, str]


class Metrics(Collector):
    """The counts of one server."""

    def __init__(self) -> None:
        self._requests: dict[_Series, list[int]] = {}
        self._watched: list[Callable[[], Metric]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # --- what is counted

    def count(self, exchange: Exchange, response: Response) -> int:
        """Count a request that has been answered; return how long it took, in nanoseconds."""
        # An id begins with the time at which it was made.
        took = time.time_ns() - int(exchange.request_id[4:20], 16)
        operation, method, status = exchange.operation, exchange.method, response.status
        if operation is None:
            route = ""
            if method not in _METHODS:
                method = "_OTHER"
        else:
            route = operation.path
        error = ""
        if status >= 400:
            # Nobody should be woken by what a test has asked for.
            error = "simulated" if exchange.simulated else reason_of(exchange, response)
        series = (method, route, status, error)
        counts = self._requests.get(series)
        if counts is None:
            counts = self._requests[series] = _EMPTY.copy()
        counts[bisect_left(_NANOSECONDS, took)] += 1
        counts[-1] += took
        return took

    # --- what is looked at when it is asked for

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Tell a value that goes up and down."""
        self._watched.append(lambda: GaugeMetricFamily(name, about, value=read()))

    def counter(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Tell a number that only grows."""
        self._watched.append(lambda: CounterMetricFamily(name, about, value=read()))

    def sizes(self, name: str, about: str, read: Callable[[], Sequence[int]]) -> None:
        """Tell how often there were so many: ``read`` gives how often there was 0, 1, 2 …."""
        self._watched.append(lambda: _of_sizes(name, about, read()))

    # --- how it is told

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Put together what is asked for."""
        requests = [(series, counts.copy()) for series, counts in self._requests.items()]
        yield self._durations(requests)
        yield _limited(requests)
        yield _build_info()
        for watched in self._watched:
            yield watched()

    def _durations(self, requests: Iterable[tuple[_Series, list[int]]]) -> Metric:
        otel, name = _DURATION
        family = HistogramMetricFamily(
            name, f"How long requests took until they were answered ({otel}).", labels=_LABELS
        )
        for (method, route, status, reason), counts in requests:
            labels = [method, route, str(status), reason]
            family.add_metric(labels, [*_cumulative(_SECONDS, counts[:-1])], counts[-1] / 1e9)
        return family


def reason_of(exchange: Exchange, response: Response) -> str:
    """Return the reason of an error, also of one that is answered again."""
    if exchange.problem is not None:
        return exchange.problem.kind.reason
    for name, value in response.headers:
        if name == b"x-error-reason":
            return value.decode()
    return str(response.status)


def _cumulative(bounds: Iterable[float], counts: Iterable[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip([*bounds, float("inf")], counts, strict=True):
        total += count
        yield "+Inf" if bound == float("inf") else str(bound), total


def _of_sizes(name: str, about: str, counts: Sequence[int]) -> Metric:
    """Put how often there were so many into buckets that double: 1, 2, 4 …."""
    bounds = [1 << power for power in range((len(counts) - 1).bit_length() + 1)]
    within = [sum(counts[: bound + 1]) for bound in bounds]
    buckets = [(str(bound), float(count)) for bound, count in zip(bounds, within, strict=True)]
    buckets.append(("+Inf", float(sum(counts))))
    return HistogramMetricFamily(
        name,
        about,
        buckets=buckets,
        sum_value=sum(size * count for size, count in enumerate(counts)),
    )


def _limited(requests: Iterable[tuple[_Series, list[int]]]) -> Metric:
    totals = dict.fromkeys(_LIMITED.values(), 0)
    for (_, _, _, reason), counts in requests:
        if reason in _LIMITED:
            totals[_LIMITED[reason]] += sum(counts[:-1])
    family = CounterMetricFamily(
        "operator_rate_limited_requests",
        "Requests answered 429: of a token past its limit, or an address with unusable tokens.",
        labels=["limit"],
    )
    for limit, total in totals.items():
        family.add_metric([limit], total)
    return family


def _build_info() -> Metric:
    family = GaugeMetricFamily(
        "operator_build_info", "What is running.", labels=["version", "python_version"]
    )
    family.add_metric([__version__, platform.python_version()], 1)
    return family
