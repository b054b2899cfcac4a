"""Prompts rewritten by a program of the operator, before a model draws them.

Asked on the edges' event loop, so that workers and other requests never wait for it, and a few at
a time. Whatever goes wrong, the prompt is drawn as it was written, with a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import ssl
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import httpx
import structlog

from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.prompt_upsampling import PromptUpsampling
from darkroom_server.parameters.bounds import MAX_PROMPT_BYTES

log = structlog.get_logger(__name__)

#: Prompts of a model that are being rewritten at once; what waits longer than its time goes as
#: written.
MAX_AT_ONCE: Final = 16
#: JSON may write a letter of a prompt in six bytes, and says more than the prompt.
_MAX_ANSWER_BYTES: Final = 8 * MAX_PROMPT_BYTES
#: How long a command that was killed is waited for.
_END_S: Final = 5.0


class _Failed(Exception):
    """Why a prompt was not rewritten, in words for a caller."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What became of a prompt: another one, or a notice why it stays as written, or neither."""

    prompt: str | None = None
    notices: tuple[Notice, ...] = ()


class PromptRewriters:
    """Asks the programs that models' configs name. Belongs to one event loop."""

    def __init__(self) -> None:
        self._rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(MAX_AT_ONCE)
        )

    async def rewritten(
        self, prompt: str, model: ModelInfo, *, deadline_s: float | None
    ) -> Rewriting:
        """The prompt as the model's program rewrites it.

        `deadline_s` is on the monotonic clock. Raises nothing of the program's doing; what it
        started is ended when the caller leaves.
        """
        asked = model.prompt_upsampling
        if not asked or not prompt.strip():
            return Rewriting()
        timeout_s = asked.timeout_s
        if deadline_s is not None:
            timeout_s = min(timeout_s, max(0.0, deadline_s - time.monotonic()))
        try:
            async with asyncio.timeout(timeout_s), self._rooms[model.name]:
                rewritten = await _ask(asked, prompt, model.name)
        except TimeoutError:
            return _as_written(model, f"took longer than {timeout_s:.3g} s")
        except _Failed as failure:
            return _as_written(model, str(failure))
        return Rewriting() if rewritten == prompt else Rewriting(rewritten)


async def _ask(asked: PromptUpsampling, prompt: str, model: str) -> str:
    try:
        if asked.command:
            answer = await _run(asked.command, prompt, model)
        else:
            answer = await _post(asked.url, prompt, model)
        text = answer.decode().strip()
    except UnicodeDecodeError:
        raise _Failed("answered with other than UTF-8") from None
    if not asked.command:
        text = _prompt_of(text)
    if not text or "\0" in text:
        raise _Failed("answered with no prompt")
    if len(text.encode(errors="surrogatepass")) > MAX_PROMPT_BYTES:
        raise _Failed(f"answered with more than {MAX_PROMPT_BYTES} bytes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Failed("answered with other than UTF-8") from None
    return text


async def _run(command: tuple[str, ...], prompt: str, model: str) -> bytes:
    """What a command prints that is given the prompt; it and what it started end with the call."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "DARKROOM_MODEL": model},
            start_new_session=True,
        )
    except OSError as error:
        raise _Failed(f"could not be started ({error.strerror or 'unknown error'})") from None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        writing = asyncio.ensure_future(_write(process.stdin, prompt.encode()))
        answer = await _bounded(process.stdout)
        await writing
        status = await process.wait()
    finally:
        writing.cancel()
        _end(process.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                # Its end is not seen before all that it has printed has been taken.
                while await process.stdout.read(_MAX_ANSWER_BYTES):
                    pass
                await process.wait()
    if status != 0:
        raise _Failed(f"ended with status {status}")
    return answer


async def _write(pipe: asyncio.StreamWriter, content: bytes) -> None:
    # A command need not read its prompt to the end; of one that has ended uvloop says RuntimeError.
    with contextlib.suppress(OSError, RuntimeError):
        pipe.write(content)
        await pipe.drain()
        pipe.close()
        await pipe.wait_closed()


async def _bounded(pipe: asyncio.StreamReader) -> bytes:
    parts, left = [], _MAX_ANSWER_BYTES
    while part := await pipe.read(left + 1):
        left -= len(part)
        if left < 0:
            raise _Failed(f"answered with more than {MAX_PROMPT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _end(group: int) -> None:
    # Refused where all of it has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """What an https endpoint's certificate is checked with. Reading it takes some 0.1 s."""
    return httpx.create_ssl_context()


async def _post(url: str, prompt: str, model: str) -> bytes:
    """What an endpoint answers that is posted the prompt and the model's name, as JSON."""
    try:
        async with (
            httpx.AsyncClient(timeout=None, verify=await asyncio.to_thread(_trusted)) as client,
            client.stream("POST", url, json={"prompt": prompt, "model": model}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise _Failed(f"answered with status {response.status_code}")
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_ANSWER_BYTES:
                    raise _Failed(f"answered with more than {MAX_PROMPT_BYTES} bytes")
            return bytes(content)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise _Failed("could not be reached") from None


def _prompt_of(text: str) -> str:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise _Failed("answered with other than JSON") from None
    prompt = answer.get("prompt") if isinstance(answer, dict) else None
    if not isinstance(prompt, str):
        raise _Failed("answered with no prompt")
    return prompt.strip()


def _as_written(model: ModelInfo, why: str) -> Rewriting:
    log.warning("prompt not rewritten", model=model.name, why=why)
    text = f"the prompt was drawn as written: what rewrites those of models/{model.name} {why}"
    return Rewriting(notices=(Notice(NoticeReason.PROMPT_NOT_REWRITTEN, text, "prompt"),))
