"""Requests with adapters, with the model on Ray: the bytes are those of one machine.

Needs Ray: `make test-ray`.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from bench.serving import Server, serving
from darkroom_client import AsyncClient, Client
from darkroom_client.errors import InvalidRequest
from tests.parity.random_adapters import ATTENTION, random_pairs, write_diffusers

pytest.importorskip("ray", reason="needs Ray: make test-ray")
pytest.importorskip("peft")

pytestmark = pytest.mark.timeout(1500)
REPOSITORY = Path(__file__).parents[3] / "model_repo"
MODEL = "tiny-sdxl"
PROGRAM = (sys.executable, "-m", "darkroom_server.cli.main")
FLAGS = ("--worker-thread-count", "1", "--model-control", "poll", "--repository-poll", "1")
END_TIMEOUT_S = SEEN_TIMEOUT_S = 300.0
#: A crowd: two with the adapter, one with another weight, one without.
WEIGHTS = (1.0, 1.0, -0.5, None)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(REPOSITORY / MODEL, folder / MODEL, ignore=shutil.ignore_patterns("adapters"))
    add_adapter(folder, "ink", version=1, seed=1)
    return folder


def add_adapter(repository: Path, name: str, *, version: int, seed: int) -> None:
    newest = max(int(one.name) for one in (repository / MODEL).iterdir() if one.name.isdecimal())
    torch.set_num_threads(1)
    unet = UNet2DConditionModel.from_pretrained(repository / MODEL / str(newest) / "unet")
    folder = repository / MODEL / "adapters" / name / str(version)
    draft = repository / "draft"
    draft.mkdir()
    pairs = random_pairs(unet, ATTENTION, rank=4, seed=seed, size=0.1)
    write_diffusers(draft / f"{name}.safetensors", {"unet": pairs})
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In one step, as seen by who follows the folder.
    draft.rename(folder)


@pytest.fixture(scope="module")
def of_one_machine(repository: Path) -> list[bytes]:
    with serving(repository, *FLAGS, program=PROGRAM) as server:
        server.until("model", state="ready")
        made = asyncio.run(crowd(server))
        server.process.terminate()
        server.process.wait(END_TIMEOUT_S)
    return made


@pytest.fixture(scope="module")
def on_ray(repository: Path, of_one_machine: list[bytes]) -> Iterator[Server]:
    # After the other server has ended: each takes memory.
    del of_one_machine
    config = repository / MODEL / "config.pbtxt"
    config.write_text(config.read_text() + "\ninstance_group { count: 2 kind: KIND_CPU }\n")
    with serving(repository, "--on", "ray", *FLAGS, program=PROGRAM) as server:
        server.until("model", state="ready")
        yield server
        server.process.terminate()
        server.process.wait(END_TIMEOUT_S)


async def crowd(server: Server) -> list[bytes]:
    """Pictures with and without the adapter, asked for together."""

    async def one(client: AsyncClient, weight: float | None) -> bytes:
        return await drawn(client, {} if weight is None else {"ink": weight})

    async with AsyncClient(server.address) as client:
        return await asyncio.gather(*(one(client, weight) for weight in WEIGHTS))


async def drawn(client: AsyncClient, adapters: dict[str, float]) -> bytes:
    made = await client.generate(
        "a red circle", width=64, height=64, steps=4, seed=3, adapters=adapters, timeout=600
    )
    return made.images[0].content


async def twice(server: Server, name: str) -> set[bytes]:
    """The same picture several times at once, so that both replicas make it."""
    async with AsyncClient(server.address) as client:
        return set(await asyncio.gather(*(drawn(client, {name: 1.0}) for _ in range(6))))


def test_the_bytes_are_those_of_one_machine(on_ray: Server, of_one_machine: list[bytes]) -> None:
    first, same, weaker, without = asyncio.run(crowd(on_ray))
    assert [first, same, weaker, without] == of_one_machine
    assert first == same
    assert len({first, weaker, without}) == 3


def test_adapters_come_change_and_go_while_replicas_serve(on_ray: Server, repository: Path) -> None:
    with Client(on_ray.address) as client:
        (ink,) = asyncio.run(twice(on_ray, "ink"))
        add_adapter(repository, "new", version=1, seed=1)
        until_listed(client, lambda found: ("new", 1) in found)
        assert asyncio.run(twice(on_ray, "new")) == {ink}
        add_adapter(repository, "new", version=2, seed=2)
        until_listed(client, lambda found: ("new", 2) in found)
        (changed,) = asyncio.run(twice(on_ray, "new"))
        assert changed != ink
        assert asyncio.run(twice(on_ray, "new/1")) == {ink}
        shutil.rmtree(repository / MODEL / "adapters" / "new")
        until_listed(client, lambda found: ("new", 1) not in found)
        with pytest.raises(InvalidRequest, match="no adapter 'new'"):
            asyncio.run(twice(on_ray, "new"))
        assert asyncio.run(twice(on_ray, "ink")) == {ink}


def until_listed(client: Client, is_seen: Callable[[set[tuple[str, int]]], bool]) -> None:
    end_s = time.monotonic() + SEEN_TIMEOUT_S
    while time.monotonic() < end_s:
        if is_seen({(one.name, one.version) for one in client.get_model(MODEL).adapters}):
            return
        time.sleep(0.2)
    pytest.fail("the repository is not looked at again")
