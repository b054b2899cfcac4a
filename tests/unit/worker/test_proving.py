from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom_server.backends.base import SharingPlan
from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.jobs import ImageSpec, Reproducibility, Task
from darkroom_server.scheduling.shared_rows import RowKinds, SharedRows
from darkroom_server.worker.proof_file import ProofFile
from darkroom_server.worker.proving import MAX_KNOWN_KEYS, Prover, composition
from tests.unit.specs import image_spec
from tests.unit.worker.loop_bench import Bench, shared

MAX_ROWS = 8
EXACT = image_spec(reproducibility=Reproducibility.EXACT)
KEY = ((EXACT.width_px, EXACT.height_px), True)
TASKS = frozenset({Task.TEXT_TO_IMAGE})


class Uneven(FakeStepModel):
    """Steps of some numbers of rows are not what each image has alone."""

    def __init__(self, *uneven_rows: int, memory_rows: int = 100) -> None:
        super().__init__()
        self.uneven_rows = uneven_rows
        self.memory_rows = memory_rows
        self.evaluated: list[int] = []
        self.used: SharingPlan = {}

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        self.evaluated.append(len(inputs))
        if len(inputs) > self.memory_rows:
            raise MemoryError
        return super().denoise(inputs)

    def prove(
        self, inputs: list[FakeTrajectory], alone: Sequence[list[int]]
    ) -> Iterator[bool | None]:
        for answer in super().prove(inputs, alone):
            yield answer if answer is None else answer and len(inputs) not in self.uneven_rows

    def sharing_plan(self) -> SharingPlan:
        return {"size 2": ["part"]}

    def use_sharing_plan(self, plan: SharingPlan) -> None:
        self.used = plan


def prover(model: FakeStepModel, file: ProofFile | None = None) -> Prover:
    return Prover(model, SharedRows(), max_rows=MAX_ROWS, tasks=TASKS, file=file)


def finished(model: FakeStepModel, file: ProofFile | None = None) -> Prover:
    made = prover(model, file)
    made.ask(EXACT)
    made.finish()
    return made


@pytest.mark.parametrize(
    ("kinds", "row_count", "expected"),
    [
        ((1,), 3, (1, 1, 1)),
        ((2,), 4, (2, 2)),
        ((2,), 2, ()),
        ((2,), 5, ()),
        ((1, 2), 3, (1, 2)),
        ((1, 2), 6, (1, 2, 2, 1)),
        ((1, 2), 2, ()),
    ],
)
def test_images_that_prove_a_step(
    kinds: RowKinds, row_count: int, expected: tuple[int, ...]
) -> None:
    assert composition(kinds, row_count) == expected


def test_every_step_of_images_with_and_without_guidance_is_proved() -> None:
    assert finished(Uneven()).shared.proved(KEY) == {
        (1,): frozenset(range(2, 9)),
        (2,): frozenset({4, 6, 8}),
        (1, 2): frozenset(range(3, 9)),
    }


class Lengthwise(Uneven):
    """Texts of other lengths, and images with other guidance, are of other keys."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: set[Hashable] = set()
        self.prompts: set[str] = set()

    def batch_key(self, spec: ImageSpec) -> Hashable:
        return (super().batch_key(spec), len(spec.prompt), spec.guidance_scale > 1)

    def gather(self, trajectories: Sequence[FakeTrajectory]) -> list[FakeTrajectory]:
        self.gathered |= {self.batch_key(one.spec) for one in trajectories}
        self.prompts |= {one.spec.prompt for one in trajectories}
        return super().gather(trajectories)


def test_a_key_is_proved_of_images_of_that_key_alone() -> None:
    model = Lengthwise()
    made = prover(model)
    made.ask(replace(EXACT, prompt="a house"))
    made.finish()
    key = model.batch_key(replace(EXACT, prompt="a house"))
    assert model.gathered == {key}
    assert len(model.prompts) > 1
    assert made.shared.most((key, True), MAX_ROWS) == MAX_ROWS


def test_steps_that_differ_are_not_shared() -> None:
    proved = finished(Uneven(4, 5)).shared.proved(KEY)
    assert proved[1,] == {2, 3, 6, 7, 8}
    assert proved[2,] == {6, 8}
    assert proved[1, 2] == {3, 6, 7, 8}


def test_what_does_not_fit_into_memory_is_not_shared_nor_is_more() -> None:
    proved = finished(Uneven(memory_rows=5)).shared.proved(KEY)
    assert max(max(rows) for rows in proved.values()) <= 5
    assert {2, 4} <= proved[1,]


def test_steps_larger_than_pay_are_proved_once_they_do() -> None:
    made = prover(Uneven())
    useful: Callable[[object], int] = lambda key: 4  # noqa: ARG005, E731
    made.useful_rows = useful
    made.ask(EXACT)
    made.finish()
    assert made.shared.most(KEY, MAX_ROWS) == 4
    made.ask(EXACT)
    assert made.is_done
    made.useful_rows = lambda key: MAX_ROWS  # noqa: ARG005
    made.ask(EXACT)
    made.finish()
    assert made.shared.most(KEY, MAX_ROWS) == MAX_ROWS


def test_proofs_are_kept_and_not_made_again(tmp_path: Path) -> None:
    file = ProofFile(tmp_path / "proofs.json", {"torch": "1"})
    first = finished(Uneven(4), file)
    again = Uneven()
    second = finished(again, file)
    assert again.evaluated == []
    assert again.used == {"size 2": ["part"]}
    assert second.shared.proved(KEY) == first.shared.proved(KEY)


def test_it_is_told_whether_any_of_what_is_asked_for_was_tried_before(tmp_path: Path) -> None:
    file = ProofFile(tmp_path / "proofs.json", {"torch": "1"})
    first = prover(Uneven(), file)
    first.useful_rows = lambda key: 2  # noqa: ARG005
    first.ask(EXACT)
    assert not first.has_kept
    first.finish()
    first.keep()
    second = prover(Uneven(), file)
    assert not second.has_kept, "nothing is asked for yet"
    second.ask(EXACT)
    assert second.has_kept
    assert not second.is_done, "larger steps may be left to prove"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="gone"),
        pytest.param(lambda path: path.write_text("{"), id="cut off"),
        pytest.param(lambda path: path.write_text("[]"), id="no object"),
        pytest.param(
            lambda path: path.write_text(
                json.dumps(json.loads(path.read_text()) | {"conditions": {"torch": "2"}})
            ),
            id="of another library",
        ),
    ],
)
def test_proofs_that_may_not_hold_are_made_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    file = ProofFile(tmp_path / "proofs.json", {"torch": "1"})
    finished(Uneven(), file)
    damage(file.path)
    again = Uneven()
    finished(again, file)
    assert again.evaluated


def test_a_size_that_was_not_proved_runs_alone_until_it_is() -> None:
    model = Uneven()
    made = prover(model)
    bench = Bench(model, prover=made)
    for name in ("a", "b"):
        bench.loop.post(
            shared(name, step_count=200, reproducibility=Reproducibility.EXACT, seeds=(1,))
        )
    model.evaluated = []
    bench.ticks(1)
    assert model.evaluated[0] == 1
    bench.ticks(300)
    assert not bench.failures()
    assert made.shared.allows(KEY, (1, 1))


def test_images_that_leave_a_batch_leave_no_step_that_was_not_proved() -> None:
    """Three images were planned; one of them cannot begin, and two rows were found to differ."""

    class Failing(Uneven):
        def begin(self, one: object, encoded: None, image_index: int) -> FakeTrajectory:
            made = super().begin(one, encoded, image_index)  # type: ignore[arg-type]
            if made.spec.prompt == "broken":
                raise MemoryError
            return made

    model = Failing(2)
    bench = Bench(model, prover=finished(model))
    model.evaluated = []
    for name, prompt in (("a", "x"), ("b", "broken"), ("c", "y")):
        bench.loop.post(
            shared(name, prompt=prompt, step_count=1, reproducibility=Reproducibility.EXACT)
        )
    bench.ticks(2)
    assert 2 not in model.evaluated
    assert set(bench.failures()) == {"b"}


def test_few_of_the_sizes_that_were_ever_asked_for_are_remembered() -> None:
    """Keys may contain lengths of texts: there is no end of them."""
    made = prover(FakeStepModel())
    for number in range(MAX_KNOWN_KEYS + 50):
        made.ask(replace(EXACT, width_px=8 * (number + 1)))
    assert len(made._known) == len(made._subjects) == MAX_KNOWN_KEYS
    made.finish()
    assert made._images == {}


def test_only_the_size_under_proof_has_images() -> None:
    made = prover(FakeStepModel())
    made.ask(EXACT)
    for _ in range(3):
        made.advance()
    other = replace(EXACT, width_px=2 * EXACT.width_px)
    made.ask(other)
    made.advance()
    assert len(made._images) == 1
    made.finish()
    for spec in (EXACT, other):
        key = ((spec.width_px, spec.height_px), True)
        assert made.shared.most(key, MAX_ROWS) == MAX_ROWS
