"""Want of memory in any stage of a request ends that request alone, by its own name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from bench.attacks import reason_of
from bench.serving import DARKROOM, Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from tests.soak.accounts import PATIENCE_S, Account, Crowd
from tests.soak.faulty_worker import STAGES
from tests.soak.stand import MODEL, repository, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("stages")
    (folder / "sitecustomize.py").write_text("import tests.soak.faulty_worker\n")
    program = ("env", f"PYTHONPATH={folder}:{ROOT}", *DARKROOM)
    with serving(repository(folder / "models"), program=program) as running:
        running.until("model", state="ready")
        yield running


async def _asked(address: str, prompt: str) -> str:
    request = GenerateRequest(prompt=prompt, width_px=64, height_px=64, step_count=6)
    request.preview.interval_step_count = 1
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            async for _ in ImageServiceStub(channel).Generate(request, timeout=PATIENCE_S):
                pass
        except grpc.aio.AioRpcError as error:
            return reason_of(error) or str(error.code())
    return "made"


@pytest.mark.parametrize("kind", ["memory", "device memory"])
@pytest.mark.parametrize("stage", STAGES)
def test_want_of_memory_in_a_stage_is_its_requests_alone(
    server: Server, stage: str, kind: str
) -> None:
    async def beside_others() -> tuple[str, Account, float]:
        account, crowd = Account(), Crowd(server.address, MODEL)
        async with crowd.under_way(account, 2):
            await until(lambda: account.outcomes["made"] >= 2)
            reason = await _asked(server.address, f"{kind} at {stage}")
            before = account.outcomes["made"]
            await until(lambda: account.outcomes["made"] >= before + 2)
        return reason, account, await crowd.good_after_s()

    reason, account, _ = asyncio.run(beside_others())
    print(f"| {kind} at {stage} | {account.asked_count} | {dict(account.outcomes)} | {reason} |")
    account.require_sound()
    # A preview or a state to go on from is given up where there is no room for it.
    assert reason in ("OUT_OF_DEVICE_MEMORY", "made"), reason
    assert stage in ("snapshot", "painter") or reason == "OUT_OF_DEVICE_MEMORY"


def test_no_worker_has_died_of_it(server: Server) -> None:
    assert not [one for one in server.log if one.get("event") == "worker died"]
