"""fal's calls to a real server; its clients are in tests/compat."""

from __future__ import annotations

import httpx

from tests.e2e.gateway.conftest import HIDREAM, Service, opened

SMALL = {"prompt": "x", "image_size": {"width": 64, "height": 64}, "num_inference_steps": 3}


def test_page_2_row_1_the_mapping_of_fal_is_served(service: Service) -> None:
    for name in ("hidream-i1-full", "fal-ai/hidream-i1-full", HIDREAM):
        headers = {"authorization": "Key a:b"}
        answer = service.http.post(f"/fal-ai/{name}", json=SMALL, headers=headers)
        assert answer.headers["x-darkroom-model"] == "hidream/1"
        [image] = answer.json()["images"]
        file = httpx.get(image["url"])
        assert (opened(file.content).size, file.headers["content-type"]) == ((64, 64), "image/jpeg")
        head = httpx.head(image["url"])
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(file.content))


def test_a_request_in_the_queue_that_is_cancelled_stops(service: Service) -> None:
    mark = len(service.server.log)
    body = SMALL | {"num_inference_steps": 100}
    made = service.http.post("/queue/fal-ai/slow", json=body).json()
    assert httpx.get(made["status_url"]).status_code == httpx.codes.ACCEPTED
    assert httpx.put(made["cancel_url"]).json() == {"status": "CANCELLATION_REQUESTED"}
    stopped = service.server.until("job stopped", after=mark)
    assert stopped["completed_step_count"] < 100
    assert httpx.get(made["response_url"]).json()["error_type"] == "cancelled"


def test_a_stream_that_is_left_stops_nothing(service: Service) -> None:
    body = SMALL | {"num_inference_steps": 20}
    made = service.http.post("/queue/fal-ai/slow", json=body).json()
    with httpx.stream("GET", f"{made['status_url']}/stream") as answer:
        next(answer.iter_lines())
    with httpx.stream("GET", f"{made['status_url']}/stream", timeout=300) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert '"COMPLETED"' in lines[-1]
    assert httpx.get(made["response_url"]).status_code == httpx.codes.OK
