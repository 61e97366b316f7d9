"""What the server counts: true numbers, in a fixed number of series, whatever callers send."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from operator_api import OperatorAI, __version__
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.operations import OPERATIONS
from tests.calls import make_records, mint, new_email
from tests.errors import assert_error
from tests.servers import Server, eventually, running
from tests.stores import FILE, write_lock

DURATION = "http_server_request_duration_seconds"
LABELS = {"http_request_method", "http_route", "http_response_status_code", "error_type"}


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "data", OPERATOR_RATE_LIMIT="100000/60s") as server:
        yield server


def samples(server: Server, name: str) -> list[Sample]:
    text = httpx2.get(f"{server.url}/metrics").text
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def value(server: Server, name: str, **labels: str) -> float:
    """Return the sum of the samples that have the labels."""
    return sum(
        each.value for each in samples(server, name) if labels.items() <= each.labels.items()
    )


def requests(server: Server, **labels: str) -> float:
    return value(server, f"{DURATION}_count", **labels)


# --- the format ---


def test_anyone_gets_it_as_prometheus_reads_it(server: Server) -> None:
    of_prometheus = (
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    for accept in ("*/*", "text/plain", of_prometheus):
        response = httpx2.get(f"{server.url}/metrics", headers={"Accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert [*text_string_to_metric_families(response.text)]
    response = httpx2.get(f"{server.url}/metrics", headers={"Accept": "image/png"})
    assert_error(response, 406, "not_acceptable")


def test_the_client_reads_it(server: Server) -> None:
    with OperatorAI(api_key=server.token, base_url=server.url) as client:
        assert f"# TYPE {DURATION} histogram" in client.service.metrics()


def test_each_family_is_described(server: Server) -> None:
    for family in text_string_to_metric_families(httpx2.get(f"{server.url}/metrics").text):
        assert family.documentation, family.name
        assert re.fullmatch(r"(http_server|operator|process)_[a-z_]+", family.name)


def test_it_says_what_is_running(server: Server) -> None:
    (build,) = samples(server, "operator_build_info")
    assert (build.labels["version"], build.value) == (__version__, 1)


# --- requests ---


def test_requests_are_counted_by_operation_status_and_reason(counted: Server) -> None:
    with counted.client() as api:
        records = make_records(api)
        for _ in range(3):
            assert api.get(f"/v1/users/{records.user_id}").status_code == 200
        api.head(f"/v1/users/{records.user_id}")
        api.post("/v1/users", json={})
        api.get("/v1/nowhere")
        api.delete("/v1/users")
        api.get("/v1/me", headers={"Operator-Simulate": "internal_error"})
    of_user = {"http_route": "/v1/users/{user_id}", "http_response_status_code": "200"}
    assert requests(counted, http_request_method="GET", **of_user, error_type="") == 3
    assert requests(counted, http_request_method="HEAD", **of_user) == 1
    assert requests(counted, http_route="/v1/users", error_type="validation_failed") == 1
    assert requests(counted, http_route="", error_type="unknown_endpoint") == 1
    assert requests(counted, http_route="", error_type="method_not_allowed") == 1
    assert requests(counted, error_type="simulated", http_response_status_code="500") == 1
    assert requests(counted, error_type="internal_error") == 0


def test_an_error_that_is_answered_again_has_its_reason(counted: Server) -> None:
    with counted.client() as api:
        body = {"email": new_email()}
        assert api.post("/v1/users", json=body).status_code == 201
        for _ in range(3):
            headers = {"Idempotency-Key": "the-same"}
            assert api.post("/v1/users", json=body, headers=headers).status_code == 409
    assert requests(counted, error_type="already_exists") == 3


def test_what_is_no_request_is_counted_too(counted: Server) -> None:
    with httpx2.Client(base_url=counted.url) as client:
        assert client.get("/v1/me", headers={"x": "y" * 70_000}).status_code == 431
    assert requests(counted, error_type="headers_too_large") == 1


def test_the_buckets_hold_all_and_the_sum_is_a_time(counted: Server) -> None:
    with counted.client() as api:
        for _ in range(50):
            api.get("/v1/me")
    mine = {"http_route": "/v1/me"}
    buckets = [
        each.value
        for each in samples(counted, f"{DURATION}_bucket")
        if mine.items() <= each.labels.items()
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == requests(counted, **mine) == 50
    assert 0 < value(counted, f"{DURATION}_sum", **mine) < 50


def test_nothing_that_callers_send_makes_a_series(counted: Server) -> None:
    def send(number: int) -> None:
        with counted.client() as api:
            for each in range(number, number + 2500):
                api.get(f"/random/{each}-{new_email()}")
            api.get("/v1/users", params={"email": new_email()})
            api.get(f"/v1/users/usr_{number:032x}")
            api.get("/v1/me", headers={"X-Request-Id": f"x{number}", "User-Agent": f"x{number}"})
            for method in ("PROPFIND", "M-SEARCH", "TRACE"):
                api.request(method, f"/{number}")

    send(0)
    before = {tuple(sorted(each.labels.items())) for each in samples(counted, f"{DURATION}_count")}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, range(0, 10_000, 2500)))
    after = {tuple(sorted(each.labels.items())) for each in samples(counted, f"{DURATION}_count")}
    assert after - before <= {each for each in after if ("http_route", "/metrics") in each}
    assert requests(counted, error_type="unknown_endpoint") == 12_500 + 15
    routes = {each.path for each in OPERATIONS} | {""}
    reasons = set(CATALOGUE) | {"", "simulated"}
    for each in samples(counted, f"{DURATION}_count"):
        assert set(each.labels) == LABELS
        assert each.labels["http_route"] in routes
        assert each.labels["error_type"] in reasons
        assert each.labels["http_request_method"] in {
            *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER", ""),
        }


def test_what_is_limited_is_counted(tmp_path: Path) -> None:
    limits = {"OPERATOR_RATE_LIMIT": "3/60s", "OPERATOR_FAILED_AUTHENTICATION_LIMIT": "2/60s"}
    with running(tmp_path / "data", **limits) as server:
        with server.client() as api, server.client("op_test_mistyped") as stranger:
            for _ in range(5):
                api.get("/v1/me")
                stranger.get("/v1/me")
        name = "operator_rate_limited_requests_total"
        assert value(server, name, limit="token") == 2
        assert value(server, name, limit="address") == 3


# --- the parts ---


def test_the_writes_of_each_commit_are_counted(counted: Server) -> None:
    def create(_: int) -> None:
        with counted.client() as api:
            assert api.post("/v1/users", json={"email": new_email()}).status_code == 201

    create(0)  # the first one of an account makes its keys, too
    before = value(counted, "operator_commit_writes_sum")
    commits = value(counted, "operator_commit_writes_count")
    with ThreadPoolExecutor(16) as threads:
        with write_lock(counted.data):
            futures = [threads.submit(create, number) for number in range(16)]
            eventually(lambda: value(counted, "operator_writes_waiting") >= 1)
            assert value(counted, "http_server_active_requests") > 2
        for each in futures:
            each.result()
    assert value(counted, "operator_commit_writes_sum") == before + 16
    assert value(counted, "operator_commit_writes_count") < commits + 16
    assert value(counted, "operator_writes_waiting") == 0
    assert value(counted, "http_server_active_requests") == 1  # this one


# --- the probes ---


def test_ready_says_how_each_part_is(server: Server) -> None:
    ready = httpx2.get(f"{server.url}/readyz").json()
    checks = {"database": "ok", "migrations": "ok", "keys": "ok", "request_log": "ok"}
    assert ready == {"status": "ready", "checks": checks}


def test_it_is_not_ready_where_it_could_not_start_again(counted: Server) -> None:
    key = counted.data / "secret.key"
    away = key.rename(key.with_name("away"))
    response = httpx2.get(f"{counted.url}/readyz")
    error = assert_error(response, 503, "store_unavailable")
    assert error["metadata"]["checks"] == {"database": "ok", "migrations": "ok", "keys": "failed"}
    assert not key.exists()
    assert httpx2.get(f"{counted.url}/livez").status_code == 200
    away.rename(key)
    assert httpx2.get(f"{counted.url}/readyz").status_code == 200


def test_it_is_not_ready_where_the_store_is_gone(counted: Server) -> None:
    file = counted.data / FILE
    away = file.rename(file.with_name("away"))
    error = assert_error(httpx2.get(f"{counted.url}/readyz"), 503, "store_unavailable")
    assert error["metadata"]["checks"] == {"database": "failed"}
    away.rename(file)
    assert httpx2.get(f"{counted.url}/readyz").status_code == 200


def test_it_is_ready_without_the_request_log(tmp_path: Path) -> None:
    with running(tmp_path / "data", OPERATOR_REQUEST_LOG="off") as server:
        assert httpx2.get(f"{server.url}/readyz").json()["checks"]["request_log"] == "off"


def test_a_live_token_changes_nothing_about_them(server: Server) -> None:
    with server.client(mint(server, environment="live")) as api:
        for path in ("/livez", "/readyz", "/metrics"):
            assert api.get(path).status_code == 200
