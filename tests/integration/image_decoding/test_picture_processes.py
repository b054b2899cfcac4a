"""Processes that decode pictures: what they give back, and what becomes of those that do not."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from PIL import Image

from darkroom_server.domain.errors import InvalidImage, QueueFull
from darkroom_server.domain.image_size import Size
from darkroom_server.image_decoding import picture_being_read, picture_processes
from darkroom_server.image_decoding.images import upright_size
from darkroom_server.image_decoding.picture_being_read import begin_reading
from darkroom_server.image_decoding.picture_processes import PictureProcesses
from darkroom_server.requests.fill import decode_fill
from darkroom_server.requests.image_requests import FillInput
from tests.unit.image_decoding.pictures import encoded

PICTURE = encoded(Image.new("RGB", (5, 3)))
FOREVER_S = 3600.0


@pytest.fixture
def one() -> Iterator[PictureProcesses]:
    """A single process, so that whatever holds it is in the way of the next picture."""
    pictures = PictureProcesses(1, work_limit_s=1.0)
    yield pictures
    pictures.close()


async def size_of(pictures: PictureProcesses, content: bytes = PICTURE) -> Size:
    return await pictures.run(upright_size, content, "image.content", pictures.limits)


async def test_what_is_asked_is_done_in_another_process_that_stays(one: PictureProcesses) -> None:
    assert await size_of(one) == Size(5, 3)
    first = await one.run(os.getpid)
    assert first != os.getpid()
    assert await one.run(os.getpid) == first


async def test_refusals_come_back_with_their_field(one: PictureProcesses) -> None:
    process = await one.run(os.getpid)
    with pytest.raises(InvalidImage, match="PNG, JPEG or WebP") as caught:
        await size_of(one, b"no picture")
    assert caught.value.field == "image.content"
    assert await one.run(os.getpid) == process


async def test_one_who_leaves_holds_up_nobody(one: PictureProcesses) -> None:
    await size_of(one)
    held = asyncio.create_task(one.run(time.sleep, FOREVER_S))
    waiting = [asyncio.create_task(one.run(time.sleep, FOREVER_S)) for _ in range(50)]
    await asyncio.wait({held, *waiting}, timeout=0.1)
    good = asyncio.create_task(size_of(one))
    for task in (held, *waiting):
        task.cancel()
    async with asyncio.timeout(30):
        assert await good == Size(5, 3)


async def test_work_without_an_end_is_refused_and_ends(one: PictureProcesses) -> None:
    with pytest.raises(InvalidImage, match="more than 1 s of work"):
        await one.run(sum, range(10**13))
    assert await size_of(one) == Size(5, 3)


async def test_a_picture_that_ends_the_decoder_ends_nothing_else(one: PictureProcesses) -> None:
    with pytest.raises(InvalidImage, match="ends the decoder"):
        await one.run(signal.raise_signal, signal.SIGSEGV)
    assert await size_of(one) == Size(5, 3)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGPROF, signal.SIGKILL])
async def test_who_is_told_is_told_which_picture_it_was(
    one: PictureProcesses, number: signal.Signals
) -> None:
    for field in ("mask.content", "image.content"):
        steps = [partial(begin_reading, "image.content"), partial(begin_reading, field)]
        errand = map(operator.call, [*steps, partial(signal.raise_signal, number)])
        with pytest.raises(InvalidImage) as caught:
            await one.run(list, errand)
        assert caught.value.field == field


async def test_every_picture_of_a_fill_is_announced(
    one: PictureProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: list[str] = []
    monkeypatch.setattr(picture_being_read, "_listeners", [fields.append])
    given = FillInput(image=PICTURE, mask=PICTURE)
    decode_fill(given, Size(5, 3), strength=1.0, preserve_unmasked=False, limits=one.limits)
    assert fields == ["image.content", "mask.content"]


async def test_a_process_that_the_system_ended_is_replaced(one: PictureProcesses) -> None:
    process = await one.run(os.getpid)
    os.kill(process, signal.SIGKILL)
    # Not a child of this test's to wait for: it is gone when it cannot be asked.
    while one._idle[0].is_running():
        await asyncio.sleep(0)
    assert await size_of(one) == Size(5, 3)


async def test_a_machine_without_room_for_a_process_asks_to_try_later(
    one: PictureProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(picture_processes.subprocess, "Popen", full)
        with pytest.raises(QueueFull):
            await size_of(one)
    assert await size_of(one) == Size(5, 3)


async def test_pictures_and_other_work_do_not_stand_in_one_line(one: PictureProcesses) -> None:
    busy = [asyncio.create_task(one.run(time.sleep, FOREVER_S)) for _ in range(50)]
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(os.getpid) == os.getpid()
    for task in busy:
        task.cancel()
    # And the other way round: no thread of the shared pool is needed.
    refusing = ThreadPoolExecutor(1)
    refusing.shutdown()
    asyncio.get_running_loop().set_default_executor(refusing)
    assert await size_of(one) == Size(5, 3)


async def test_processes_end_with_their_owner(one: PictureProcesses) -> None:
    process = await one.run(os.getpid)
    one.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
