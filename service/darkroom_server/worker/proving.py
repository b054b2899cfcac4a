"""Finds out which steps may be shared at EXACT, and keeps it beside the version.

At load for the default size as far as there is time, then while nothing is to be done, and between
the steps of requests of sizes that nobody has asked for before: those run alone meanwhile. Belongs
to the model thread; one call of `advance` takes about as long as one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

import structlog

from darkroom_server.backends.base import Encoded, Inputs, OneTrajectory, Outputs, StepModel
from darkroom_server.domain.errors import DarkroomError, OutOfDeviceMemory
from darkroom_server.domain.jobs import ImageSpec, Task
from darkroom_server.scheduling.shared_rows import RowKinds, SharedRows, kinds_of
from darkroom_server.worker.calibration import cost_key
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.proof_file import ProofFile, Proofs

log = structlog.get_logger(__name__)

#: With guidance above this an image has two rows, where a family's images have.
GUIDED_SCALE = 4.0
#: Keys whose requests are remembered; of one that comes again the proofs are still known.
MAX_KNOWN_KEYS = 256
#: Different prompts of a proof's images, and the most steps that they have taken.
PROMPT_COUNT, STEPS_AHEAD = 4, 2


@dataclass(frozen=True, slots=True)
class _Target:
    """Steps that are to be proved."""

    kinds: RowKinds
    row_count: int


@dataclass(slots=True)
class _Image(Generic[OneTrajectory, Outputs]):
    """An image of a proof on its way, and what the denoiser predicts of it alone."""

    trajectory: OneTrajectory
    alone: Outputs


@dataclass(slots=True)
class _Subject:
    """A key under proof: requests of it by their rows, and what is to be proved of them."""

    key: Hashable
    name: str
    specs: dict[int, ImageSpec]
    targets: list[_Target]
    work: Iterator[None] | None = None
    at_work: _Target | None = None

    def next_target(self, row_count: int) -> _Target | None:
        """The first target of at most `row_count` rows."""
        return next((one for one in self.targets if one.row_count <= row_count), None)


class Prover(Generic[Encoded, OneTrajectory, Inputs, Outputs]):
    """Proves steps of the sizes that are asked for. Not thread-safe."""

    def __init__(
        self,
        model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
        shared: SharedRows,
        *,
        max_rows: int,
        tasks: frozenset[Task],
        file: ProofFile | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._model = model
        self._max_rows = max_rows
        self._tasks = tasks
        #: What may be shared, so far. Read by the batcher, also from other threads.
        self.shared = shared
        self._file = file
        self._proofs = self._taken_over()
        #: What is left of the keys that were asked for, and those of them that are under proof.
        self._known: dict[Hashable, _Subject] = {}
        self._subjects: dict[Hashable, _Subject] = {}
        #: Images of the keys under proof, by their rows, as far as they were made.
        self._images: dict[Hashable, dict[int, list[_Image[OneTrajectory, Outputs]]]] = {}
        self._is_kept = True
        #: Rows up to which larger steps of a key pay; more are not proved.
        self.useful_rows: Callable[[Hashable], int] = lambda key: max_rows  # noqa: ARG005

    @property
    def is_done(self) -> bool:
        """Whether everything asked for has been proved or found different."""
        return not self._subjects

    @property
    def has_kept(self) -> bool:
        """Whether steps of what was asked for were tried before, by this worker or another."""
        return any(self._proofs.tried(subject.name) for subject in self._known.values())

    def ask(self, spec: ImageSpec) -> None:
        """Has a request's size proved, unless it is already."""
        if spec.feature_cache is not None:
            return
        key = cost_key(self._model, spec)
        subject = self._known.pop(key, None) or self._subject(key, spec)
        # The newest last.
        self._known[key] = subject
        while len(self._known) > MAX_KNOWN_KEYS:
            oldest = next(iter(self._known))
            for kept in (self._known, self._subjects, self._images):
                kept.pop(oldest, None)
        if key not in self._subjects and subject.next_target(self.useful_rows(key)) is not None:
            self._subjects[key] = subject

    def _subject(self, key: Hashable, spec: ImageSpec) -> _Subject:
        """A key with what is known of it already."""
        name = repr(self._model.batch_key(spec))
        for kinds, row_count in self._proofs.equal(name):
            self.shared.allow(key, kinds, row_count)
        specs = self._variants(spec)
        done = self._proofs.tried(name)
        targets = self._targets(tuple(specs))
        targets = [one for one in targets if (one.kinds, one.row_count) not in done]
        return _Subject(key, name, specs, targets)

    def advance(self) -> None:
        """One evaluation's worth of proving, of what was asked for last; raises DeviceLost."""
        if not self._subjects:
            return
        subject = self._subjects[next(reversed(self._subjects))]
        self._put_off_others(subject)
        if subject.work is None:
            target = subject.next_target(self.useful_rows(subject.key))
            if target is None:
                self._end(subject)
                return
            subject.targets.remove(target)
            subject.work = self._prove(subject, target)
            subject.at_work = target
        failed = attempt(partial(self._next, subject))
        if isinstance(failed, DarkroomError):
            self._give_up(subject, failed)

    def _put_off_others(self, subject: _Subject) -> None:
        """Releases the images of other keys: their proofs begin again when it is their turn."""
        for key in self._images.keys() - {subject.key}:
            del self._images[key]
            other = self._subjects[key]
            if other.work is not None and other.at_work is not None:
                other.targets.insert(0, other.at_work)
                other.work = None

    def spend(self, duration_s: float) -> None:
        """Proves for about `duration_s`, if there is that much to prove; raises DeviceLost."""
        until_s = self._clock() + duration_s
        while self._subjects and self._clock() < until_s:
            self.advance()

    def finish(self) -> None:
        """Proves all that was asked for, without a limit of time; raises DeviceLost."""
        while self._subjects:
            self.advance()

    def keep(self) -> None:
        """Writes what is known beside the version, if it is not there yet."""
        if self._file is not None and not self._is_kept:
            self._is_kept = True
            self._file.write(self._proofs, self._model.sharing_plan())

    def _taken_over(self) -> Proofs:
        if self._file is None:
            return Proofs()
        proofs, plan = self._file.read()
        try:
            self._model.use_sharing_plan(plan)
        except KeyError:
            log.warning("kept proofs are of another denoiser", path=str(self._file.path))
            return Proofs()
        return proofs

    def _next(self, subject: _Subject) -> None:
        assert subject.work is not None
        try:
            next(subject.work)
        except StopIteration:
            subject.work = None

    def _end(self, subject: _Subject) -> None:
        del self._subjects[subject.key]
        self._images.pop(subject.key, None)
        proved = self.shared.proved(subject.key)
        log.info(
            "exact steps",
            size=subject.name,
            most_rows={str(kinds): max(rows, default=0) for kinds, rows in proved.items()},
        )
        if not self._subjects:
            self.keep()

    def _give_up(self, subject: _Subject, failure: DarkroomError) -> None:
        """Steps that do not run are not shared; where memory ran out, nor are larger ones."""
        assert subject.at_work is not None
        failed_count = subject.at_work.row_count
        log.warning("exact step not proved", size=subject.name, row_count=failed_count)
        subject.work = None
        has_run_out = isinstance(failure, OutOfDeviceMemory)
        subject.targets = [
            one for one in subject.targets if has_run_out and one.row_count < failed_count
        ]

    def _variants(self, spec: ImageSpec) -> dict[int, ImageSpec]:
        """Requests of a size by the rows that their images have, with and without guidance."""
        if Task.TEXT_TO_IMAGE in self._tasks:
            plain = replace(
                spec, task=Task.TEXT_TO_IMAGE, fill=None, source=None, reference_images=()
            )
            if self._model.batch_key(plain) == self._model.batch_key(spec):
                spec = plain
        variants: dict[int, ImageSpec] = {}
        for guidance_scale in (spec.guidance_scale, 1.0, GUIDED_SCALE):
            one = replace(spec, guidance_scale=guidance_scale, preview=None, adapters=())
            # Those of another key never share a step with the request.
            if self._model.batch_key(one) == self._model.batch_key(spec):
                variants.setdefault(self._model.rows(one), one)
        return variants

    def _targets(self, row_counts: tuple[int, ...]) -> list[_Target]:
        """What to prove, the most useful first: powers of two, then what lies between."""
        most = self._max_rows
        doubled = [1 << power for power in range(1, most.bit_length()) if 1 << power <= most]
        between = [rows for rows in range(2, most + 1) if rows not in doubled]
        kinds: list[RowKinds] = [(rows,) for rows in row_counts]
        if len(row_counts) > 1:
            kinds.append(kinds_of(row_counts))
        return [
            _Target(kind, rows)
            for some in (doubled, between)
            for kind in kinds
            for rows in some
            if composition(kind, rows)
        ]

    def _prove(self, subject: _Subject, target: _Target) -> Iterator[None]:
        """Images put together as a target says, and compared with each alone."""
        image_rows = composition(target.kinds, target.row_count)
        for rows in target.kinds:
            yield from self._make(subject, rows, image_rows.count(rows))
        made = {rows: iter(images) for rows, images in self._images[subject.key].items()}
        images = [next(made[rows]) for rows in image_rows]
        inputs = self._model.gather([image.trajectory for image in images])
        is_equal = False
        for answer in self._model.prove(inputs, [image.alone for image in images]):
            if answer is None:
                yield
            else:
                is_equal = answer and self._rests_on_proofs(subject, target)
        if is_equal:
            self.shared.allow(subject.key, target.kinds, target.row_count)
        self._proofs.note(subject.name, target.kinds, target.row_count, is_equal=is_equal)
        self._is_kept = False

    def _rests_on_proofs(self, subject: _Subject, target: _Target) -> bool:
        """Whether steps of each kind of images by itself, which came before, were proved."""
        proved = self.shared.proved(subject.key)
        return len(target.kinds) == 1 or all(
            target.row_count in proved.get((rows,), ())
            for rows in target.kinds
            if composition((rows,), target.row_count)
        )

    def _make(self, subject: _Subject, rows: int, count: int) -> Iterator[None]:
        """Images of `rows` rows each, `count` of them: of other prompts, noise and timesteps."""
        made = self._images.setdefault(subject.key, {}).setdefault(rows, [])
        model = self._model
        while len(made) < count:
            number = len(made)
            spec = replace(self._other_prompt(subject.specs[rows], number), seeds=(number,))
            one = model.begin(spec, model.encode(spec), 0)
            for _ in range(number % (STEPS_AHEAD + 1)):
                yield
                if one.completed_step_count + 1 < one.step_count:
                    model.scatter(one, model.denoise(model.gather([one])), 0)
            yield
            made.append(_Image(one, model.denoise(model.gather([one]))))

    def _other_prompt(self, spec: ImageSpec, number: int) -> ImageSpec:
        """With another prompt, as far as one has the same key: some keys hold a text's length."""
        key, digit = self._model.batch_key(spec), f"{number % PROMPT_COUNT}"
        others = (replace(spec, prompt=text) for text in (digit, digit + spec.prompt[1:]))
        return next((one for one in others if self._model.batch_key(one) == key), spec)


#: A prover of whatever model, for what does not look into its images.
AnyProver = Prover[Any, Any, Any, Any]


def composition(kinds: RowKinds, row_count: int) -> tuple[int, ...]:
    """Rows of the images that prove a step of `row_count` rows; none where no images add up to it.

    Of two kinds, one of the fewest rows comes first, so that the others lie at other places than
    in a step of their own kind.
    """
    fewest, most = kinds[0], kinds[-1]
    ahead = 0 if len(kinds) == 1 else 1
    count, rest = divmod(row_count - ahead * fewest, most)
    if count < 1 or rest % fewest or len(kinds) > 2:
        return ()
    composed = (*(fewest,) * ahead, *(most,) * count, *(fewest,) * (rest // fewest))
    return composed if len(composed) > 1 and set(composed) == set(kinds) else ()
