"""What follows a search: confirmation and the champion, once, by one of the processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dqnkit.config.sections import Config
from dqnkit.errors import StudyError
from dqnkit.events import ConfirmationStarted, Listener, RunStatus, Warned
from dqnkit.processes import identity
from dqnkit.processes.interrupts import Interrupts
from dqnkit.tracking.names import Tag
from dqnkit.tuning import report
from dqnkit.tuning.confirmation import Confirmation
from dqnkit.tuning.confirmed import Confirmed
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.standing import best_trials
from dqnkit.tuning.study import BEST, CONCLUDED, SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.pool import WorkerPool

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Concluded:
    """What a search came to."""

    confirmed: tuple[Confirmed, ...]
    """The best first; none if that was not asked for."""
    winner: Config
    """With the seed of the champion's run."""
    model: str | None
    """The registered model's URI."""


class Conclusion:
    """Confirms the best trials, and registers the winner."""

    def __init__(
        self, study: SharedStudy, record: StudyRun, listener: Listener, confirm: int
    ) -> None:
        """Does nothing yet.

        Args:
          study: Whose trials have ended.
          record: Of it.
          listener: Receives events.
          confirm: Trials to confirm.
        """
        self._study = study
        self._record = record
        self._listener = listener
        self._confirm = confirm
        self.problems: list[str] = []

    def run(self, pool: WorkerPool, interrupts: Interrupts) -> Concluded | None:
        """Concludes when no other process does; None if it was interrupted.

        Whoever comes second finds that it is done, or does what is left if the first has died.

        Raises:
          StudyError: No trial is complete.
        """
        turn = Lease(self._study.study, CONCLUSION)
        waits_for = None
        while not interrupts:
            with turn.taken() as is_mine:
                if is_mine:
                    confirmed = self._confirmed(pool, interrupts)
                    if interrupts:
                        return None
                    if turn.is_mine:
                        return self._concluded(confirmed)
            if turn.holder != waits_for:
                waits_for = turn.holder
                host = identity.host(waits_for or "") or "another process"
                self._listener(Warned(f"waiting for {host}, which confirms the winner"))
            time.sleep(_LOOK_SECONDS)
        return None

    def _confirmed(self, pool: WorkerPool, interrupts: Interrupts) -> list[Confirmed]:
        candidates = best_trials(self._study, self._confirm)
        if not candidates:
            return []
        confirmation = Confirmation(self._study, candidates, self._record)
        # It is our turn: whoever had it has died, if anything of it still runs.
        self._record.editor.end_orphans({Tag.CONFIRMS: self._study.name}, {})
        if confirmation.jobs.left:
            left = confirmation.jobs.left
            self._listener(ConfirmationStarted(candidates, confirmation.seeds, left))
        status = RunStatus.FAILED
        try:
            run_jobs(pool, confirmation.jobs, self._listener, interrupts)
            status = RunStatus.KILLED
        except KeyboardInterrupt:
            status = RunStatus.KILLED
            raise
        finally:
            if pool.busy:
                pool.close(at_once=True)
            confirmation.jobs.close(status)
            self.problems += confirmation.jobs.problems + confirmation.jobs.failures
        confirmed = confirmation.ranked()
        self._record.set_confirmed(confirmed)
        return confirmed

    def _concluded(self, confirmed: Sequence[Confirmed]) -> Concluded:
        best = best_trials(self._study, 1)
        if not best:
            raise StudyError(
                f"no trial of the study {self._study.name!r} is complete, so there is no winner: "
                "raise `trials` or `timeout`, or set `pruner` to none"
            )
        winner = self._study.configuration(best[0].number)
        if confirmed:
            winner = confirmed[0].config.with_seed(confirmed[0].champion.seed)
        text = report.explained_winner(winner, self._study, confirmed)
        return Concluded(tuple(confirmed), winner, self._register(confirmed, text))

    def _register(self, confirmed: Sequence[Confirmed], text: str) -> str | None:
        """Keeps the winner where it has not been kept; the model's URI."""
        run_id, known = self._record.run_id, self._study.recall(CONCLUDED) or {}
        if known.get("winner") == text and known.get("run_id") == run_id:
            return known.get("model")
        model = self._record.register(confirmed[0]) if confirmed else None
        self._record.add_files(text)
        self._study.remember(BEST, text)
        self._study.remember(CONCLUDED, {"winner": text, "run_id": run_id, "model": model})
        return model
