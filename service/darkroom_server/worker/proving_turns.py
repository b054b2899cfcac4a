"""When a worker measures steps and proves that more may be shared: time that nobody else misses."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.worker.calibration import AnyCalibration
from darkroom_server.worker.proving import AnyProver

#: Device time that proofs may take beside steps, in parts of these: below what promises of
#: deadlines leave for disturbances.
PROVING_SHARE = 0.1


class ProvingTurns:
    """Gives a calibration and a prover their turns. Belongs to the model thread, but for `pause_s`.

    Costs are measured in idle turns alone, before proofs: under load, the steps measure them.
    `knee`: rows up to which larger steps of a key pay.
    """

    def __init__(
        self,
        prover: AnyProver | None,
        clock: Callable[[], float],
        calibration: AnyCalibration | None = None,
        *,
        knee: Callable[[Hashable], int],
    ) -> None:
        self._prover = prover
        if prover is not None:
            prover.useful_rows = knee
        self._calibration = calibration
        self._clock = clock
        #: Device time of steps, and of proofs.
        self._stepping_s = self._proving_s = 0.0
        self._last_s = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to prove."""
        return self._prover is None or self._prover.is_done

    def progress(self) -> tuple[int, bool]:
        """Rows of the largest step that was proved so far, and whether more is being proved."""
        return (0 if self._prover is None else self._prover.shared.largest), not self.is_done

    @property
    def pause_s(self) -> float | None:
        """How long to wait for requests before the next turn; None when nothing is left to prove.

        As long as the last turn took: others on the machine may have work.
        """
        return None if self.is_done and self._is_calibrated else self._last_s

    @property
    def _is_calibrated(self) -> bool:
        return self._calibration is None or self._calibration.is_done

    def ask(self, spec: ImageSpec) -> None:
        """Has the size of a request proved."""
        if self._prover is not None:
            self._prover.ask(spec)

    def note_step(self, duration_s: float) -> None:
        """A step was taken."""
        self._stepping_s += duration_s

    def take(self, *, is_idle: bool) -> None:
        """A part of a proof: while nothing else is to be done; beside steps, in a share of time.

        Requests of sizes that are not proved run alone until then.
        """
        if is_idle and self._calibration is not None and not self._calibration.is_done:
            started_s = self._clock()
            self._calibration.advance()
            self._last_s = self._clock() - started_s
            return
        if self._prover is None or self._prover.is_done:
            return
        if is_idle or self._proving_s <= PROVING_SHARE * self._stepping_s:
            started_s = self._clock()
            self._prover.advance()
            self._last_s = self._clock() - started_s
            self._proving_s += self._last_s

    def keep(self) -> None:
        """Writes what was proved, where that is kept."""
        if self._prover is not None:
            self._prover.keep()
