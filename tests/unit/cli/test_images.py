"""`darkroom generate` and `darkroom fill`: what they send, write, say and exit with."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from google.rpc import error_details_pb2

from darkroom.v1 import image_pb2, image_service_pb2
from darkroom_client import Event
from darkroom_server.cli.progress import Plain
from tests.integration.clients.scripted_server import (
    ScriptedServer,
    accepted,
    announce,
    chunk,
    completed,
    error_info,
    fails,
    image,
    queued,
    says,
    step,
    warned,
)

Darkroom = Callable[..., Result]

GOOD = says(accepted(), *image(b"picture"), completed())


def last_line(text: str) -> str:
    return text.splitlines()[-1]


# What is sent


def test_generate_sends_every_option(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [GOOD]
    options = (
        "--model m --model-version stable --negative dog --seed 0 --steps 4 --guidance 0 "
        "--size 64x32 --quality 80 --scheduler Euler --timeout 20"
    )
    result = darkroom("generate", "a cat", "-o", "out.webp", *options.split())
    assert result.exit_code == 0, result.output
    assert server.images.requests == [
        image_service_pb2.GenerateRequest(
            prompt="a cat",
            model="m",
            version="stable",
            negative_prompt="dog",
            seed=0,
            step_count=4,
            guidance_scale=0,
            width_px=64,
            height_px=32,
            image_count=1,
            scheduler="Euler",
            output=image_pb2.OutputOptions(format=image_pb2.OUTPUT_FORMAT_WEBP, quality=80),
        )
    ]


def test_what_is_left_out_is_left_to_the_model(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [GOOD]
    darkroom("generate", "a cat", "-o", "out.png")
    png = image_pb2.OutputOptions(format=image_pb2.OUTPUT_FORMAT_PNG)
    expected = image_service_pb2.GenerateRequest(prompt="a cat", image_count=1, output=png)
    assert server.images.requests == [expected]


def test_one_number_is_a_square_size(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [GOOD]
    darkroom("generate", "a cat", "-o", "out.png", "--size", "256")
    (request,) = server.images.requests
    assert (request.width_px, request.height_px) == (256, 256)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["out.png"], image_pb2.OUTPUT_FORMAT_PNG, id="png"),
        pytest.param(["out.JPG"], image_pb2.OUTPUT_FORMAT_JPEG, id="jpg-in-capitals"),
        pytest.param(["out.jpeg"], image_pb2.OUTPUT_FORMAT_JPEG, id="jpeg"),
        pytest.param(["out.webp"], image_pb2.OUTPUT_FORMAT_WEBP, id="webp"),
        pytest.param(["out.jpg", "--format", "jpeg"], image_pb2.OUTPUT_FORMAT_JPEG, id="both"),
        pytest.param(
            ["out.img", "--format", "jpeg"], image_pb2.OUTPUT_FORMAT_JPEG, id="unknown-suffix"
        ),
        pytest.param(["out", "--format", "webp"], image_pb2.OUTPUT_FORMAT_WEBP, id="no-suffix"),
    ],
)
def test_the_format_is_the_one_given_or_of_the_suffix(
    server: ScriptedServer,
    darkroom: Darkroom,
    arguments: list[str],
    expected: image_pb2.OutputFormat.ValueType,
) -> None:
    server.images.scripts = [GOOD]
    darkroom("generate", "a cat", "-o", *arguments)
    assert [request.output.format for request in server.images.requests] == [expected]


def test_a_format_that_contradicts_the_suffix_is_refused(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    result = darkroom("generate", "a cat", "-o", "out.png", "--format", "webp")
    assert result.exit_code == 2
    assert "webp contradicts the name 'out.png'" in result.output
    assert server.images.requests == []


def test_generate_begins_with_an_image_when_one_is_given(
    server: ScriptedServer, darkroom: Darkroom, tmp_path: Path
) -> None:
    server.images.scripts = [GOOD]
    (tmp_path / "in.png").write_bytes(b"a picture")
    options = f"--image {tmp_path / 'in.png'} --strength 0.4 --exact exact --preview-every 3"
    options += " --priority high"
    result = darkroom("generate", "a cat", "-o", "out.png", *options.split())
    assert result.exit_code == 0, result.output
    (request,) = server.images.requests
    assert (request.image.content, request.strength) == (b"a picture", 0.4)
    assert request.reproducibility == image_pb2.REPRODUCIBILITY_EXACT
    assert request.priority == image_pb2.PRIORITY_HIGH
    assert request.preview.interval_step_count == 3


def test_fill_sends_the_files_and_its_options(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [GOOD]
    Path("in.png").write_bytes(b"image")
    Path("mask.png").write_bytes(b"mask")
    options = "--strength 0.5 --preserve-unmasked --invert-mask"
    result = darkroom("fill", "in.png", "mask.png", "a star", "-o", "out.png", *options.split())
    assert result.exit_code == 0, result.output
    (request,) = server.images.requests
    assert isinstance(request, image_service_pb2.FillRequest)
    assert (request.image.content, request.mask.content) == (b"image", b"mask")
    assert (request.strength, request.preserve_unmasked) == (0.5, True)
    assert request.mask_polarity == image_pb2.MASK_POLARITY_BLACK_REPAINTS


@pytest.mark.parametrize(
    ("option", "asked"),
    [("", None), ("--preserve", True), ("--no-preserve", False), ("--no-preserve-unmasked", False)],
)
def test_what_is_kept_may_be_left_to_the_model(
    server: ScriptedServer, darkroom: Darkroom, option: str, asked: bool | None
) -> None:
    server.images.scripts = [GOOD]
    for name in ("in.png", "mask.png"):
        Path(name).write_bytes(b"a picture")
    result = darkroom("fill", "in.png", "mask.png", "", "-o", "out.png", *option.split())
    assert result.exit_code == 0, result.output
    (request,) = server.images.requests
    assert isinstance(request, image_service_pb2.FillRequest)
    told = request.preserve_unmasked if request.HasField("preserve_unmasked") else None
    assert told is asked


# What is written and said


def test_the_image_is_written_and_named_with_its_seed(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    server.images.scripts = [GOOD]
    Path("out.png").write_bytes(b"something older and longer")
    result = darkroom("generate", "a cat", "-o", "out.png")
    assert Path("out.png").read_bytes() == b"picture"
    line = r"out.png: 2x2, seed 7, scripted version \d+, \d+\.\d s\n"
    assert re.fullmatch(line, result.stdout)


def test_several_images_are_numbered(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [says(accepted(), *image(b"a", 0), *image(b"b", 1), completed(2))]
    result = darkroom("generate", "a cat", "-o", "out.png", "--count", "2")
    assert Path("out-0.png").read_bytes() == b"a"
    assert Path("out-1.png").read_bytes() == b"b"
    assert not Path("out.png").exists()
    told = [line.split(",")[:2] for line in result.stdout.splitlines()]
    assert told == [["out-0.png: 2x2", " seed 7"], ["out-1.png: 2x2", " seed 8"]]


def test_json_tells_everything_to_a_program(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [says(warned("ROUNDED", "rounded"), *image(b"abc"), completed())]
    result = darkroom("generate", "a cat", "-o", "out.png", "--json")
    told = json.loads(result.stdout)
    (made,) = told["images"]
    assert (made["path"], made["seed"], made["size_bytes"]) == ("out.png", 7, 3)
    assert told["parameters"]["model"] == "models/scripted"
    assert told["warnings"][0]["reason"] == "ROUNDED"
    assert told["timings"]["denoise_s"] == 1.5
    assert told["generation_id"] == "g-1"


def test_away_from_a_terminal_each_new_stage_is_a_line(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    events = [accepted(), queued(2), queued(2), queued(0, model_loading=True), step(1, 2)]
    server.images.scripts = [says(*events, step(2, 2), *image(b"a"), completed())]
    result = darkroom("generate", "a cat", "-o", "out.png")
    assert result.stderr.splitlines() == ["queued, 2 ahead", "loading the model", "denoising"]


def test_warnings_go_to_stderr(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [
        says(warned("ROUNDED", "width [17] became 16"), *image(b"a"), completed())
    ]
    result = darkroom("generate", "a cat", "-o", "out.png")
    assert result.stderr == "warning: --size: width [17] became 16\n"


def test_quiet_says_nothing(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [says(warned("ROUNDED", "x"), queued(1), *image(b"a"), completed())]
    result = darkroom("generate", "a cat", "-o", "out.png", "--quiet")
    assert result.output == ""
    assert Path("out.png").exists()


# What it exits with


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        pytest.param("INVALID_ARGUMENT", "INVALID_PARAMETER", 2, id="invalid"),
        pytest.param("NOT_FOUND", "MODEL_NOT_FOUND", 3, id="no-model"),
        pytest.param("UNAVAILABLE", "QUEUE_FULL", 4, id="full"),
        pytest.param("RESOURCE_EXHAUSTED", "RATE_LIMITED", 4, id="rate-limited"),
        pytest.param("FAILED_PRECONDITION", "MODEL_UNAVAILABLE", 4, id="model-unavailable"),
        pytest.param("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 5, id="deadline"),
        pytest.param("INTERNAL", "INTERNAL", 6, id="server-error"),
        pytest.param("UNAUTHENTICATED", "INVALID_API_KEY", 7, id="no-token"),
        pytest.param("PERMISSION_DENIED", "PERMISSION_DENIED", 7, id="not-permitted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    server: ScriptedServer, darkroom: Darkroom, code: str, reason: str, exit_code: int
) -> None:
    failing = fails(grpc.StatusCode[code], "why it failed", error_info(reason), pushback_ms=-1)
    server.images.scripts = [failing]
    result = darkroom("generate", "a cat", "-o", "out.png")
    assert result.exit_code == exit_code
    (line,) = result.stderr.splitlines()
    assert line.startswith("darkroom: why it failed")
    assert result.stdout == ""
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("field", "written"),
    [
        pytest.param("step_count", "--steps", id="option"),
        pytest.param("image.content", "IMAGE", id="argument"),
        pytest.param("preview.max_edge_px", "preview.max_edge_px", id="neither"),
    ],
)
def test_an_invalid_field_is_named_as_the_user_writes_it(
    server: ScriptedServer, darkroom: Darkroom, field: str, written: str
) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=field, description="is not right")
    info = error_info("INVALID_PARAMETER")
    server.images.scripts = [fails(grpc.StatusCode.INVALID_ARGUMENT, "bad", info, bad)]
    result = darkroom("generate", "a cat", "-o", "out.png")
    assert result.stderr == f"darkroom: {written}: is not right\n"


def test_a_timeout_exits_with_5(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    assert darkroom("generate", "a cat", "-o", "out.png", "--timeout", "0.3").exit_code == 5


def test_no_server_exits_with_4_and_says_where_it_looked(darkroom: Darkroom) -> None:
    result = darkroom("generate", "a cat", "-o", "out.png", "--server", "127.0.0.1:1")
    assert result.exit_code == 4
    assert "127.0.0.1:1" in result.stderr
    assert "nothing listens there; is the server running" in last_line(result.stderr)


def test_a_corrupt_image_exits_with_6_and_writes_nothing(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    server.images.scripts = [says(accepted(), announce(b"abc"), chunk(b"abd"), completed())]
    assert darkroom("generate", "a cat", "-o", "out.png").exit_code == 6
    assert not Path("out.png").exists()


def test_an_interrupt_exits_with_130_and_cancels_the_call(
    server: ScriptedServer, darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_view: Plain, _event: Event) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Plain, "show", interrupt)
    # A shell starts what runs in its background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    server.images.scripts = [server.images.waits(accepted())]
    try:
        result = darkroom("generate", "a cat", "-o", "out.png")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert last_line(result.stderr) == "darkroom: interrupted"
    assert server.images.cancelled.wait(300)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        pytest.param(["-o", "no/out.png"], 1, "no: No such folder", id="no-folder"),
        pytest.param(["-o", "folder.png"], 1, "folder.png: Is a directory", id="a-folder"),
        pytest.param(["-o", "out.gif"], 2, "name a --format", id="unknown-suffix"),
        pytest.param(["-o", "out.png", "--size", "3y"], 2, "not a size", id="size"),
        pytest.param(["-o", "out.png", "--size", "-1"], 2, "not a size", id="negative-size"),
        pytest.param(["-o", "out.png", "--count", "0"], 2, "--count", id="no-images"),
        pytest.param(["-o", "out.png", "--seed", "x"], 2, "--seed", id="not-a-number"),
        pytest.param(
            ["-o", "out.png", "--steps", "99999999999"], 2, "--steps", id="beyond-any-number"
        ),
        pytest.param(["-o", "-", "--count", "2"], 2, "takes one image", id="two-to-stdout"),
        pytest.param(["-o", "-", "--json"], 2, "the image or --json", id="stdout-and-json"),
    ],
)
def test_what_cannot_work_never_reaches_the_server(
    server: ScriptedServer,
    darkroom: Darkroom,
    arguments: list[str],
    exit_code: int,
    complaint: str,
) -> None:
    Path("folder.png").mkdir()
    result = darkroom("generate", "a cat", *arguments)
    assert result.exit_code == exit_code
    assert complaint in last_line(result.stderr)
    assert server.images.requests == []


def test_a_file_to_fill_that_is_not_there_exits_with_1(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    result = darkroom("fill", "in.png", "mask.png", "a star", "-o", "out.png")
    assert result.exit_code == 1
    assert result.stderr == "darkroom: in.png: No such file or directory\n"
    assert server.images.requests == []


def test_what_was_written_before_an_error_is_told(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    after = (accepted(), *image(b"a", 0))
    server.images.scripts = [fails(grpc.StatusCode.INTERNAL, "broken", after=after)]
    result = darkroom("generate", "a cat", "-o", "out.png", "--count", "2")
    assert result.exit_code == 6
    assert result.stdout.startswith("out-0.png: 2x2, seed 7")
    assert Path("out-0.png").read_bytes() == b"a"
