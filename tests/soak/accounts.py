"""Requests under way while something breaks, and an account of what became of each of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc

from darkroom.v1.image_service_pb2 import GenerateRequest, GenerationEvent
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub

#: How long anything is waited for: a bound against hanging, not an expectation.
PATIENCE_S = 120.0
EDGE_PX, STEP_COUNT = 16, 6
#: Pauses of one that was turned away.
RETRY_S = 0.1
#: Channels of one process share a connection unless they are told not to.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(slots=True)
class Account:
    """One outcome each: made, a code, or lost; and how many were doubled or of other bytes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    doubled_count: int = 0
    wrong_count: int = 0

    @property
    def asked_count(self) -> int:
        """Requests in all."""
        return self.outcomes.total()

    def require_sound(self, *allowed: grpc.StatusCode) -> None:
        """Raises AssertionError where a request was lost, doubled, made wrong or failed unduly."""
        assert not self.doubled_count, self
        assert not self.wrong_count, self
        undue = self.outcomes.keys() - {"made", *(code.name for code in allowed)}
        assert not undue, self


class Crowd:
    """Callers of the fake model, whose pictures are known: the same seed makes the same bytes."""

    def __init__(self, address: str, model: str = "") -> None:
        self._address = address
        self._model = model
        self._known: dict[int, bytes] = {}
        self._seeds = itertools.count()

    async def ask(
        self, stub: ImageServiceStub, account: Account, *, read_count: int | None = None
    ) -> str:
        """One request to its end, or hung up on after `read_count` events; its outcome, booked."""
        outcome = await self._outcome(stub, account, read_count)
        account.outcomes[outcome] += 1
        return outcome

    async def _outcome(
        self, stub: ImageServiceStub, account: Account, read_count: int | None
    ) -> str:
        seed = next(self._seeds) % 256
        request = GenerateRequest(
            prompt="soak", width_px=EDGE_PX, height_px=EDGE_PX, step_count=STEP_COUNT, seed=seed
        )
        request.model = self._model
        call = stub.Generate(request, timeout=PATIENCE_S, wait_for_ready=False)
        events: list[GenerationEvent] = []
        try:
            async for response in call:
                events.append(response.event)
                if len(events) == read_count:
                    call.cancel()
                    return "hung up"
        except asyncio.CancelledError:
            return "hung up"
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return "lost"
            is_cut = code is grpc.StatusCode.CANCELLED and bool(events)
            return "cut off without a reason" if is_cut else code.name
        self._check(seed, events, account)
        return "made"

    def _check(self, seed: int, events: list[GenerationEvent], account: Account) -> None:
        kinds = Counter(event.WhichOneof("event") for event in events)
        content = b"".join(
            event.chunk.content for event in events if event.WhichOneof("event") == "chunk"
        )
        account.doubled_count += kinds["completed"] != 1 or kinds["accepted"] != 1
        known = self._known.setdefault(seed, content)
        account.wrong_count += not content or content != known

    @contextlib.asynccontextmanager
    async def under_way(self, account: Account, caller_count: int) -> AsyncIterator[None]:
        """So many callers ask again and again, until the block is over; then all are waited for."""
        is_over = asyncio.Event()

        async def caller() -> None:
            async with grpc.aio.insecure_channel(self._address, OWN_CONNECTION) as channel:
                stub = ImageServiceStub(channel)
                while not is_over.is_set():
                    if await self.ask(stub, account) not in ("made", "hung up"):
                        await asyncio.sleep(RETRY_S)

        callers = [asyncio.ensure_future(caller()) for _ in range(caller_count)]
        try:
            yield
        finally:
            is_over.set()
            # Also where the block failed: what a caller failed of is the better explanation.
            await asyncio.gather(*callers)

    async def at_once(self, account: Account, count: int) -> None:
        """So many requests on one connection, all there together."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = ImageServiceStub(channel)
            await asyncio.gather(*(self.ask(stub, account) for _ in range(count)))

    async def hang_up(self, account: Account, count: int) -> None:
        """Callers that leave after their first event, or with their connection, by turns."""
        for number in range(count):
            async with grpc.aio.insecure_channel(self._address) as channel:
                stub = ImageServiceStub(channel)
                if number % 2:
                    await self.ask(stub, account, read_count=1)
                else:
                    asking = asyncio.ensure_future(self.ask(stub, account, read_count=99))
                    await asyncio.sleep(0.02)
            if not number % 2:
                await asking

    async def good_after_s(self) -> float:
        """Seconds until a request is made, of one that tries until it is."""
        started_s, account = time.monotonic(), Account()
        while time.monotonic() < started_s + PATIENCE_S:
            async with grpc.aio.insecure_channel(self._address) as channel:
                if await self.ask(ImageServiceStub(channel), account) == "made":
                    return time.monotonic() - started_s
            await asyncio.sleep(RETRY_S)
        raise AssertionError(f"nothing was made within {PATIENCE_S} s: {account}")
