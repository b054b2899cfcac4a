"""Runs the cases by the Python client and reports: python_client.py ADDRESS CASES OUT_FOLDER.

A report is one line of JSON a case on standard output; images are written as `<case>-<image>`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from darkroom_client import (
    Accepted,
    Client,
    Completed,
    DarkroomError,
    Event,
    ImageReady,
    InvalidRequest,
    Preview,
    Progress,
    Queued,
    RetryableError,
)

#: A port that nothing listens on.
NOBODY = "127.0.0.1:1"

#: Options of the client by the field of the request.
OPTIONS = {
    "width_px": "width",
    "height_px": "height",
    "step_count": "steps",
    "image_count": "count",
}
EVENTS = {
    Accepted: "accepted",
    Queued: "queued",
    Progress: "progress",
    Preview: "preview",
    ImageReady: "image",
    Completed: "completed",
}


def main() -> None:
    """Runs every case and prints its report."""
    address, cases, folder = sys.argv[1:]
    for index, case in enumerate(json.loads(Path(cases).read_text())["cases"]):
        with Client(NOBODY if case.get("server") == "none" else address) as client:
            print(json.dumps(run(client, case, Path(folder) / str(index))), flush=True)


def run(client: Client, case: dict[str, Any], stem: Path) -> dict[str, Any]:
    """What came of one case."""
    report: dict[str, Any] = {
        "case": case["name"],
        "events": [],
        "warnings": [],
        "images": [],
        "models": [],
        "cancelled": False,
    }
    try:
        match case["method"]:
            case "ListModels":
                report["models"] = [model.name for model in client.list_models()]
            case "GetModel":
                report["models"] = [client.get_model(case["request"]["name"]).name]
            case _:
                take(report, stream(client, case), case.get("cancel_after"), stem)
    except DarkroomError as error:
        report["error"] = described(error)
    return report


def take(
    report: dict[str, Any],
    stream: Generator[Event, None, None],
    cancel_after: str | None,
    stem: Path,
) -> None:
    """Reads a stream to its end, or until an event after which it is to be cancelled."""
    with contextlib.closing(stream) as events:
        for event in events:
            note(report, event, stem)
            if EVENTS[type(event)] == cancel_after:
                report["cancelled"] = True
                return


def stream(client: Client, case: dict[str, Any]) -> Generator[Event, None, None]:
    """The call of a case."""
    arguments = options(case["request"])
    arguments["timeout"] = case.get("timeout_s", 60.0)
    if case["method"] == "Fill":
        return client.fill_events(mask=arguments.pop("mask", None), **arguments)
    return client.generate_events(**arguments)


def options(request: dict[str, Any]) -> dict[str, Any]:
    """The client's arguments for a request in proto JSON."""
    made: dict[str, Any] = {}
    for field, value in request.items():
        match field:
            case "image" | "mask":
                made[field] = base64.b64decode(value["content"])
            case "seed":
                made[field] = int(value)
            case "output":
                made |= value
                if "format" in value:
                    made["format"] = value["format"].removeprefix("OUTPUT_FORMAT_").lower()
            case "preview":
                made["preview_interval_steps"] = value["interval_step_count"]
                made["preview_max_edge"] = value.get("max_edge_px")
            case "mask_polarity":
                made[field] = value.removeprefix("MASK_POLARITY_").split("_")[0].lower()
            case "priority" | "reproducibility":
                made[field] = value.removeprefix(f"{field.upper()}_").lower()
            case "dimension_policy":
                made["reject_off_grid_size"] = value == "DIMENSION_POLICY_REJECT"
            case "unsupported_parameter_policy":
                made["ignore_unsupported"] = value == "UNSUPPORTED_PARAMETER_POLICY_IGNORE"
            case _:
                made[OPTIONS.get(field, field)] = value
    return made


def note(report: dict[str, Any], event: Event, stem: Path) -> None:
    """Adds an event to a report; writes the image of one that has one."""
    report["events"].append(EVENTS[type(event)])
    match event:
        case Accepted():
            report["warnings"] = [f"{each.reason} {each.field}" for each in event.warnings]
        case ImageReady(image):
            image.save(f"{stem}-{image.image_index}")
            report["images"].append(
                {
                    "image_index": image.image_index,
                    "seed": str(image.seed),
                    "width_px": image.width_px,
                    "height_px": image.height_px,
                    "media_type": image.media_type,
                }
            )
        case Queued() | Progress() | Preview() | Completed():
            pass


def described(error: DarkroomError) -> dict[str, Any]:
    """An error as the cases name it; its class says what the code was."""
    violations = error.violations if isinstance(error, InvalidRequest) else ()
    return {
        "kind": type(error).__name__,
        "reason": error.reason,
        "fields": [each.field for each in violations],
        "has_retry_delay": isinstance(error, RetryableError) and error.retry_after_s is not None,
    }


if __name__ == "__main__":
    main()
