"""An inference request run: one answer with all images, or one for each thing that is made."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import (
    JobCompleted,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    Task,
)
from darkroom_server.domain.request_events import Accepted, RequestEvent, Validated
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.wire.generation import first_event, generation_events, unwritten
from darkroom_server.wire.kserve.inputs import FINAL_RESPONSE, Asked, InferCall, read_call
from darkroom_server.wire.kserve.tensors import BYTES, OutputTensor, Scalar

IMAGE: Final = "IMAGE"
SEED: Final = "SEED"
PREVIEW: Final = "PREVIEW"
#: The outputs of every model, and what their elements are.
OUTPUTS: Final = {IMAGE: BYTES, SEED: "UINT64", PREVIEW: BYTES}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferAnswer:
    """One answer to a request."""

    model: str
    version: int
    id: str
    outputs: tuple[OutputTensor, ...] = ()
    parameters: dict[str, Scalar] = field(default_factory=dict)


class Inference:
    """Runs requests for all edges. Belongs to the engine's event loop."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self._engine = engine
        self._pictures = pictures

    async def once(self, call: InferCall, *, deadline_s: float | None = None) -> InferAnswer:
        """All images in one answer, without previews; raises DarkroomError.

        `deadline_s` is on the monotonic clock.
        """
        asked = self._asked(call)
        if call.outputs == (PREVIEW,):
            raise InvalidParameter(PREVIEW, "it comes in streams alone; ask for IMAGE here")
        with asked.named_as_written():
            async with aclosing(self._events(asked, deadline_s, is_collected=True)) as events:
                answers = _Answers(call, await first_event(events))
                return answers.images([one async for one in events if isinstance(one, JobImage)])

    async def stream(
        self, call: InferCall, *, deadline_s: float | None = None
    ) -> AsyncGenerator[InferAnswer, None]:
        """An answer for each preview and each image, the last of which says that it is the last.

        Where the caller wants an empty answer at the end, that one does. The last one comes when
        the request has ended, and is counted. Raises DarkroomError.
        """
        asked, made_count = self._asked(call), 0
        last: InferAnswer | None = None
        with asked.named_as_written():
            async with aclosing(self._events(asked, deadline_s, is_collected=False)) as events:
                answers = _Answers(call, await first_event(events))
                async for event in events:
                    match event:
                        case JobPreview():
                            if answers.wants(PREVIEW):
                                yield answers.preview(event)
                        case JobImage():
                            made_count += 1
                            is_last = made_count == answers.image_count and not asked.ends_empty
                            answer = answers.image(event, is_final=is_last)
                            if not is_last:
                                yield answer
                            else:
                                last = answer
                        case JobCompleted() | Validated():
                            last = last or answers.end()
                        case Accepted() | JobQueued() | JobProgress():
                            pass
        if last is not None:
            yield last

    def _asked(self, call: InferCall) -> Asked:
        for name in call.outputs:
            if name not in OUTPUTS:
                raise InvalidParameter(name[:64], f"no such output; known: {', '.join(OUTPUTS)}")
        return read_call(call, self._tasks(call.model))

    def _tasks(self, model: str) -> frozenset[Task]:
        return self._engine.get_model(model).model.tasks if model else frozenset(Task)

    def _events(
        self, asked: Asked, deadline_s: float | None, *, is_collected: bool
    ) -> AsyncGenerator[RequestEvent, None]:
        if asked.timeout_s is not None:
            until_s = time.monotonic() + asked.timeout_s
            deadline_s = until_s if deadline_s is None else min(until_s, deadline_s)
        return generation_events(
            self._engine,
            self._pictures,
            asked.ref,
            asked.request,
            deadline_s=deadline_s,
            write=unwritten,
            is_collected=is_collected,
        )


class _Answers:
    """Writes the answers to one request that was admitted."""

    def __init__(self, call: InferCall, accepted: Accepted) -> None:
        self._call = call
        self._accepted = accepted

    @property
    def image_count(self) -> int:
        """How many images are to be made."""
        return len(self._accepted.spec.seeds)

    def wants(self, output: str) -> bool:
        """Whether the caller asked for an output."""
        return not self._call.outputs or output in self._call.outputs

    def images(self, images: list[JobImage]) -> InferAnswer:
        """All of them."""
        values: dict[str, Scalar] = {"generation_id": self._accepted.job_id}
        if images:
            values |= _picture(images[0])
        return self._answer(values, self._outputs(images))

    def image(self, image: JobImage, *, is_final: bool) -> InferAnswer:
        """One of them."""
        values = {"image_index": image.image_index, FINAL_RESPONSE: is_final} | _picture(image)
        return self._answer(values, self._outputs([image]))

    def preview(self, preview: JobPreview) -> InferAnswer:
        """One of an image that is being made."""
        values: dict[str, Scalar] = {
            "image_index": preview.image_index,
            "completed_step_count": preview.completed_step_count,
            "media_type": "image/jpeg",
            "width": preview.width_px,
            "height": preview.height_px,
            FINAL_RESPONSE: False,
        }
        tensor = OutputTensor(name=PREVIEW, datatype=BYTES, elements=(preview.content,))
        return self._answer(values, [tensor])

    def end(self) -> InferAnswer:
        """Nothing more comes."""
        return self._answer({FINAL_RESPONSE: True}, [])

    def _answer(self, values: dict[str, Scalar], outputs: list[OutputTensor]) -> InferAnswer:
        model = self._accepted.model
        warnings = "; ".join(one.description for one in self._accepted.notices)
        return InferAnswer(
            model=model.name,
            version=model.version,
            id=self._call.id,
            outputs=tuple(outputs),
            parameters=values | ({"warnings": warnings} if warnings else {}),
        )

    def _outputs(self, images: list[JobImage]) -> list[OutputTensor]:
        made: dict[str, tuple[Scalar, ...]] = {
            IMAGE: tuple(image.content for image in images),
            SEED: tuple(image.seed for image in images),
        }
        return list(self._wanted(made))

    def _wanted(self, made: dict[str, tuple[Scalar, ...]]) -> Iterator[OutputTensor]:
        """In the order in which the caller named them."""
        for name in self._call.outputs or made:
            if name in made:
                yield OutputTensor(name=name, datatype=OUTPUTS[name], elements=made[name])


def _picture(image: JobImage) -> dict[str, Scalar]:
    return {
        "media_type": image.format.value,
        "width": image.width_px,
        "height": image.height_px,
        "filtered": image.is_filtered,
    }
