"""Prompts rewritten by a real command and a real HTTP server, and what happens when they fail."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from darkroom.v1 import image_service_pb2_grpc
from darkroom.v1.image_pb2 import EffectiveParameters
from darkroom.v1.image_service_pb2 import GenerateRequest, GenerationEvent
from darkroom_server.domain.prompt_upsampling import PromptUpsampling
from darkroom_server.parameters.bounds import MAX_PROMPT_BYTES
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.example_models import SDXL, status

#: Against hanging only.
BOUND_S = 120.0
Images = image_service_pb2_grpc.ImageServiceStub
Answer = Callable[[dict[str, str]], tuple[int, bytes]]


@contextmanager
def endpoint(answer: Answer) -> Iterator[str]:
    """A server of the operator; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            code, body = answer(asked)
            try:
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # whoever asked has gone

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/rewrite"
    finally:
        server.shutdown()
        server.server_close()


def python(code: str) -> tuple[str, ...]:
    """A command of the operator."""
    return (sys.executable, "-c", code)


def use(engine: FakeEngine, upsampling: PromptUpsampling) -> None:
    engine.models = (status(dataclasses.replace(SDXL, prompt_upsampling=upsampling)),)


async def accepted(images: Images, prompt: str = "a cat") -> GenerationEvent.Accepted:
    call = images.Generate(GenerateRequest(model=SDXL.name, prompt=prompt), timeout=BOUND_S)
    events = [one.event async for one in call]
    return events[0].accepted


def drawn(engine: FakeEngine) -> str:
    spec = engine.sessions[-1].spec
    assert spec is not None
    return spec.prompt


def rewritten(parameters: EffectiveParameters) -> str:
    return parameters.rewritten_prompt


async def test_without_a_program_prompts_are_drawn_as_written(
    images: Images, engine: FakeEngine
) -> None:
    told = await accepted(images)
    assert (drawn(engine), rewritten(told.parameters)) == ("a cat", "")
    assert list(told.warnings) == []


async def test_a_command_reads_a_prompt_and_prints_another(
    images: Images, engine: FakeEngine
) -> None:
    code = "import os, sys; print(os.environ['DARKROOM_MODEL'], sys.stdin.read(), 'ünder a tree')"
    use(engine, PromptUpsampling(command=python(code), timeout_s=BOUND_S))
    told = await accepted(images)
    assert drawn(engine) == f"{SDXL.name} a cat ünder a tree"
    assert rewritten(told.parameters) == drawn(engine)
    assert list(told.warnings) == []


async def test_an_endpoint_is_posted_a_prompt_and_answers_with_another(
    images: Images, engine: FakeEngine
) -> None:
    asked: list[dict[str, str]] = []

    def answer(given: dict[str, str]) -> tuple[int, bytes]:
        asked.append(given)
        return 200, json.dumps({"prompt": given["prompt"] + ", by candlelight"}).encode()

    with endpoint(answer) as url:
        use(engine, PromptUpsampling(url=url, timeout_s=BOUND_S))
        told = await accepted(images)
    assert asked == [{"prompt": "a cat", "model": SDXL.name}]
    assert drawn(engine) == rewritten(told.parameters) == "a cat, by candlelight"


FAILURES = [
    pytest.param(python("raise SystemExit(3)"), "ended with status 3", id="status"),
    pytest.param(("/nowhere/rewrite",), "could not be started", id="absent"),
    pytest.param(python("pass"), "answered with no prompt", id="nothing"),
    pytest.param(python("print('\\0')"), "answered with no prompt", id="nul"),
    pytest.param(
        python("import sys; sys.stdout.buffer.write(b'\\xff')"), "other than UTF-8", id="bytes"
    ),
    pytest.param(
        python("import sys\nwhile True: sys.stdout.write('a' * 65536)"),
        f"more than {MAX_PROMPT_BYTES} bytes",
        id="endless",
    ),
    pytest.param(
        python(f"print('a' * {MAX_PROMPT_BYTES + 1})"),
        f"more than {MAX_PROMPT_BYTES} bytes",
        id="long",
    ),
]


@pytest.mark.parametrize(("command", "why"), FAILURES)
async def test_a_command_that_fails_leaves_the_prompt_as_written(
    images: Images, engine: FakeEngine, command: tuple[str, ...], why: str
) -> None:
    use(engine, PromptUpsampling(command=command, timeout_s=BOUND_S))
    told = await accepted(images)
    assert (drawn(engine), rewritten(told.parameters)) == ("a cat", "")
    [warning] = told.warnings
    assert (warning.reason, warning.field) == ("PROMPT_NOT_REWRITTEN", "prompt")
    assert why in warning.description


@pytest.mark.parametrize(
    ("answered", "why"),
    [
        pytest.param((500, b"{}"), "answered with status 500", id="status"),
        pytest.param((200, b"a dog"), "answered with other than JSON", id="text"),
        pytest.param((200, b'{"prompt": 3}'), "answered with no prompt", id="number"),
        pytest.param((200, b'["prompt"]'), "answered with no prompt", id="list"),
        pytest.param((200, b'{"prompt": " "}'), "answered with no prompt", id="empty"),
        pytest.param((200, b'{"prompt": "\\ud800"}'), "other than UTF-8", id="surrogate"),
        pytest.param((200, b" " * (1 << 20)), "answered with more than", id="endless"),
        pytest.param((200, b"[" * 60_000), "answered with other than JSON", id="deep"),
    ],
)
async def test_an_endpoint_that_fails_leaves_the_prompt_as_written(
    images: Images, engine: FakeEngine, answered: tuple[int, bytes], why: str
) -> None:
    with endpoint(lambda _: answered) as url:
        use(engine, PromptUpsampling(url=url, timeout_s=BOUND_S))
        told = await accepted(images)
    assert drawn(engine) == "a cat"
    [warning] = told.warnings
    assert why in warning.description


async def test_an_endpoint_that_is_not_there_leaves_the_prompt_as_written(
    images: Images, engine: FakeEngine
) -> None:
    with endpoint(lambda _: (200, b"{}")) as url:
        pass
    use(engine, PromptUpsampling(url=url, timeout_s=BOUND_S))
    [warning] = (await accepted(images)).warnings
    assert "could not be reached" in warning.description


async def test_what_takes_too_long_is_ended_and_holds_up_nobody(
    images: Images, engine: FakeEngine, tmp_path: Path
) -> None:
    told_pid = tmp_path / "pid"
    # A command whose child would outlive it.
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        f"slow = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep({BOUND_S})'])\n"
        f"pathlib.Path({str(told_pid)!r} + '.new').write_text(str(slow.pid))\n"
        f"os.rename({str(told_pid)!r} + '.new', {str(told_pid)!r})\n"
        f"time.sleep({BOUND_S})\n"
    )
    use(engine, PromptUpsampling(command=python(code), timeout_s=BOUND_S))
    waiting = images.Generate(GenerateRequest(model=SDXL.name, prompt="slow"), timeout=BOUND_S)
    reading = asyncio.ensure_future(waiting.read())
    async with asyncio.timeout(BOUND_S):
        while not told_pid.exists():
            await asyncio.sleep(0.01)
    # Another request of the same server is answered meanwhile.
    use(engine, PromptUpsampling())
    assert list((await accepted(images)).warnings) == []
    assert not reading.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    pid = int(told_pid.read_text())
    async with asyncio.timeout(BOUND_S):
        while _runs(pid):
            await asyncio.sleep(0.01)


async def test_an_answer_is_not_waited_for_longer_than_its_time(
    images: Images, engine: FakeEngine
) -> None:
    left = threading.Event()

    def answer(_: dict[str, str]) -> tuple[int, bytes]:
        left.wait(BOUND_S)
        return 200, b"{}"

    with endpoint(answer) as url:
        use(engine, PromptUpsampling(url=url, timeout_s=0.05))
        told = await accepted(images)
        left.set()
    [warning] = told.warnings
    assert "took longer than 0.05 s" in warning.description
    assert drawn(engine) == "a cat"


async def test_a_request_that_is_only_validated_asks_nobody(
    images: Images, engine: FakeEngine
) -> None:
    use(engine, PromptUpsampling(command=python("print('a dog')"), timeout_s=BOUND_S))
    request = GenerateRequest(model=SDXL.name, prompt="a cat", validate_only=True)
    [first, *_] = [one.event async for one in images.Generate(request, timeout=BOUND_S)]
    assert rewritten(first.accepted.parameters) == ""


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
