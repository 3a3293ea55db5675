"""The end of a search: one of its processes confirms the best trials and registers the winner."""

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
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.confirmation import Confirmation, choose_candidates
from dqnkit.tuning.confirmed_trial import ConfirmedTrial
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.standing import best_trials
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.pool import WorkerPool

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class ConclusionResult:
    """The winner of a search."""

    confirmed: tuple[ConfirmedTrial, ...]
    """Confirmed trials, best first; empty if no confirmation was requested."""
    winner: Config
    """Configuration of the winner, with the seed of the champion's run."""
    model: str | None
    """URI of the registered model; None if nothing was registered."""


class Conclusion:
    """Confirms the best trials and registers the winner."""

    def __init__(
        self, study: SharedStudy, study_run: StudyRun, listener: Listener, options: TuneOptions
    ) -> None:
        """Make a conclusion; nothing happens before `run`.

        Args:
          study: A study whose trials have ended.
          study_run: Run of the study.
          listener: Receives events.
          options: Options of the search: the number of trials to confirm, and what becomes of the
            champion.
        """
        self._study = study
        self._study_run = study_run
        self._listener = listener
        self._confirm = options.confirm
        self._promote = options.promote
        self.problems: list[str] = []
        """Descriptions of failed seeds, and of what could not be recorded."""

    def run(self, pool: WorkerPool, interrupts: Interrupts) -> ConclusionResult | None:
        """Conclude the search while no other process does; return None if interrupted.

        A process that comes later finds the results of the first one, and completes them if that
        process has died.

        Raises:
          StudyError: If no trial is complete.
        """
        lease = Lease(self._study.study, CONCLUSION)
        awaited = None
        while not interrupts:
            with lease.try_acquire() as acquired:
                if acquired:
                    confirmed = self._confirm_trials(pool, interrupts)
                    if interrupts:
                        return None
                    if lease.is_held:
                        return self._conclude(confirmed)
            if lease.holder != awaited:
                awaited = lease.holder
                host = identity.host(awaited or "") or "another process"
                self._listener(Warned(f"waiting for {host}, which confirms the best trials"))
            time.sleep(_POLL_SECONDS)
        return None

    def _confirm_trials(self, pool: WorkerPool, interrupts: Interrupts) -> list[ConfirmedTrial]:
        candidates = choose_candidates(self._study, self._confirm)
        if not candidates:
            return []
        confirmation = Confirmation(self._study, candidates, self._study_run)
        # This process holds the lease, so runs that are still RUNNING belong to a dead holder.
        self._study_run.editor.end_orphans({Tag.CONFIRMS: self._study.name}, {})
        if confirmation.jobs.left:
            runs_left = confirmation.jobs.left
            self._listener(ConfirmationStarted(candidates, confirmation.seeds, runs_left))
        self._train(confirmation, pool, interrupts)
        confirmed = confirmation.ranked()
        self._study_run.set_confirmed(confirmed)
        return confirmed

    def _train(self, confirmation: Confirmation, pool: WorkerPool, interrupts: Interrupts) -> None:
        """Train all seeds, and close the records of an interrupted confirmation."""
        jobs = confirmation.jobs
        status = RunStatus.FAILED
        try:
            run_jobs(pool, jobs, self._listener, interrupts)
            status = RunStatus.KILLED  # a record that is still open now was interrupted
        except KeyboardInterrupt:
            status = RunStatus.KILLED
            raise
        finally:
            if pool.busy:
                pool.close(at_once=True)
            jobs.close(status)
            self.problems += jobs.problems + jobs.failures

    def _conclude(self, confirmed: Sequence[ConfirmedTrial]) -> ConclusionResult:
        best = best_trials(self._study, 1)
        if not best:
            raise StudyError(
                f"no trial of the study {self._study.name!r} is complete, so there is no winner: "
                "raise `trials` or `timeout`, or set `pruner` to none"
            )
        winner = self._study.configuration(best[0].number)
        if confirmed:
            winner = confirmed[0].config.with_seed(confirmed[0].champion.seed)
        text = report.winner_yaml(winner, self._study, confirmed)
        return ConclusionResult(tuple(confirmed), winner, self._keep_winner(confirmed, text))

    def _register(self, best: ConfirmedTrial) -> str | None:
        model, remark = self._study_run.register(best, promote=self._promote)
        if remark is not None:
            self._listener(Warned(remark))
        return model

    def _keep_winner(self, confirmed: Sequence[ConfirmedTrial], text: str) -> str | None:
        """Register, record and store the winner unless that is done; return the model's URI."""
        run_id = self._study_run.run_id
        stored = self._study.get_attr(StudyAttr.CONCLUSION) or {}
        # A decision on the champion holds for a search that is complete too.
        is_decided = self._promote is None and stored.get("model") is not None
        is_registered = is_decided or not confirmed
        if is_registered and stored.get("winner") == text and stored.get("run_id") == run_id:
            return stored.get("model")
        model = self._register(confirmed[0]) if confirmed else None
        self._study_run.add_files(text)
        self._study.set_attr(StudyAttr.WINNER, text)
        conclusion = {"winner": text, "run_id": run_id, "model": model}
        self._study.set_attr(StudyAttr.CONCLUSION, conclusion)
        return model
