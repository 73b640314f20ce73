"""The only writer of displays and widgets: each follows its run until the run ends, from one daemon thread for all.

A display has one of two forms. The live card (card/) is a widget that is sent what is new, several times a second; it
is shown where a front end answers it. The static form is a bundle that is replaced once a second at most, and only when
what it says has changed. Both are updated by the display's id, so they stay in the cell that made them whatever runs
meanwhile; nothing here prints. What is left when a run ends, when the kernel ends or when the extension is unloaded is
the static form, kept in the notebook file. A page that was loaded anew does not know the display's id, so that nothing
can be replaced in it: there the card stays, and is answered as long as it is seen.

What goes wrong while a run is looked at is said in its display and tried again, ever more slowly.
"""

from __future__ import annotations

import atexit
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import RunNotFoundError
from jupyter_gpudeploy.notebook.busy import Busy
from jupyter_gpudeploy.notebook.reprs import bundle
from jupyter_gpudeploy.notebook.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.notebook.card.form import Form
    from jupyter_gpudeploy.run import Run
    from jupyter_gpudeploy.summary import Summary

PAUSE = 1.0
CARD_PAUSE = 0.12
RESTING_PAUSE = 0.25  # of a card to which nothing was sent for a while
RESTS_AFTER = 2.0
ENDED_PAUSE = 1.0
IDLE_SHARE = 10  # a look that took 0.2 s is not repeated before 2 s
LONGEST_PAUSE = 30.0
HELLO_SECONDS = 3.0
TRIES = 3
OVER = "the run has ended"
GONE = "this run was replaced or deleted; the display stays as it was"
LEFT = "the notebook ended here, the run goes on: %deploy attach {name} shows it again"
NO_ANSWER = ("no front end answered the live card", "the card comes when one answers; --plain shows this form at once")
NOT_BUILT = ("the live card is not built", "make widget")
NO_WIDGETS = ("anywidget is not installed", "pip install anywidget")
_told: set[str] = set()
_log = logging.getLogger(__name__)


class Display:
    """One output of one cell that shows one run. Used under the ticker's lock only, once it is there.

    `form`: makes the live card, where there may be one. `keeps`: the card stays although the run has ended.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        run: Run,
        *,
        form: Callable[[Run], Form] | None = None,
        keeps: bool = False,
    ) -> None:
        self.run = run
        self.id = uuid.uuid4().hex
        self.cell = _cell_of(shell)
        self.due = 0.0
        self._make_form = form
        self._keeps = keeps
        self._form: Form | None = None
        self._is_card = False
        self.is_ended = False
        self._shown_at = 0.0
        self._tries = 0
        self._pause = PAUSE
        self._publish: Callable[..., object] = shell.display_pub.publish
        self._identity = self._file_identity()
        self._summary: Summary | None = None
        self._asides: list[dict[str, str]] = []
        self._sent: dict[str, Any] = {}

    def draw(self) -> bool:
        """Show where the run stands now, if that has changed. Return whether there is more to come."""
        if self.is_ended:
            return self._answer_views()
        if self._form is not None and self._keep_card(self._form, time.monotonic()):
            return True
        return self._draw_static()

    def settle(self) -> bool:
        """Show where the run stands now; one that has ended, in the form that stays. Return as `draw` does."""
        if self.is_ended or self._keeps or not self.run.is_over:
            return self.draw()
        self._is_card = False
        return self._draw_static()

    def leave(self) -> None:
        """Show for the last time where the run stands."""
        self._leave_card("the notebook ended here")
        if self._draw_static():
            self._send(LEFT.format(name=self.run.name))

    def repeat(self) -> None:
        """Send once more what was sent last."""
        self._publish(data=self._sent, metadata={}, transient={"display_id": self.id}, update=True)

    @property
    def is_called(self) -> bool:
        """Whether a view of its card wants an answer."""
        return self._form is not None and self._form.session.has_news

    @property
    def _is_over(self) -> bool:
        return self._summary is not None and self._summary.state.is_final

    # --- the static form

    def _draw_static(self) -> bool:
        if self._sent and self._file_identity() != self._identity:
            self._leave_card(GONE)
            self._send(GONE)
            return False
        started, problem = time.monotonic(), ""
        try:
            self._summary = self.run.summary()
        except RunNotFoundError:
            self._leave_card(GONE)
            self._send(GONE)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the display says it and goes on
            problem = f"cannot be followed at the moment: {type(error).__name__}: {error}"
        self._open_card(problem)
        self._send(problem)
        cost = time.monotonic() - started
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if problem else max(PAUSE, IDLE_SHARE * cost)
        self.due = time.monotonic() + (0 if self._is_card else self._pause)
        goes_on = bool(problem) or self._is_card or not self._is_over
        return goes_on or self._end()

    def _send(self, problem: str) -> None:
        new = self._bundle(problem)
        if new == self._sent:
            return
        self._publish(data=new, metadata={}, transient={"display_id": self.id}, update=bool(self._sent))
        self._sent = new

    def _bundle(self, problem: str) -> dict[str, Any]:
        view = self._form.mime if self._form is not None and self._is_card else {}
        if self._summary is None:
            return {**view, "text/plain": f"{self.run.name}: {problem}"}
        try:
            final = self._is_over or bool(problem)
            notes = [*self.run.notes, *([] if final or self._is_card else self._asides)]
            made = bundle(self._summary, notes=notes, problem=problem, run=self.run, final=final)
        except Exception as error:  # noqa: BLE001 - logged, with its traceback
            _log.exception("%s cannot be drawn", self.run.name)
            return {**view, "text/plain": f"{self.run.name}: cannot be drawn: {type(error).__name__}: {error}"}
        return {**view, **made}

    # --- the live form

    def _open_card(self, problem: str) -> None:
        """Make the card when the display is first shown, where there can be one."""
        make, self._make_form = self._make_form, None
        if make is None or problem or (self._is_over and not self._keeps):
            return
        try:
            self._form = make(self.run)
        except Exception as error:  # noqa: BLE001 - the static form shows the same
            if isinstance(error, ImportError | FileNotFoundError):
                self._tell_once(*(NOT_BUILT if isinstance(error, FileNotFoundError) else NO_WIDGETS))
            else:
                _log.warning("no live card: %s", error)
            return
        self._show_card()

    def _show_card(self) -> None:
        self._is_card = True
        self._tries += 1
        self._shown_at = time.monotonic()

    def _keep_card(self, form: Form, now: float) -> bool:
        """Send what is new. Return False where the static form is to be drawn, and when it is its turn again."""
        form.tick(now)
        self.due = now + (CARD_PAUSE if now - form.session.moved < RESTS_AFTER else RESTING_PAUSE)
        if form.feed.is_gone or (form.feed.is_over and not self._keeps):
            self._is_card = False
            return False
        if self._is_card and not form.session.greeted and now - self._shown_at > HELLO_SECONDS:
            self._is_card = False  # nobody answers; who does later gets the card then
            self._tell_once(*NO_ANSWER)
            return False
        if not self._is_card and form.session.greeted and self._tries < TRIES:
            form.session.forget()  # it may be an old greeting: the card must answer once it is shown again
            self._show_card()
            self._send("")
            return True
        return self._is_card

    def _end(self) -> bool:
        """Leave the card, now that the static form stands in its place; return whether views of it are left."""
        self.is_ended = True
        return self._answer_views()

    def _answer_views(self) -> bool:
        form = self._form
        if form is None:
            return False
        form.tick(time.monotonic())
        if form.has_views and not form.feed.is_gone:
            self.due = time.monotonic() + ENDED_PAUSE
            return True
        self.let_go()
        return False

    def let_go(self) -> None:
        """Answer the views of a run that has ended no longer."""
        self._leave_card(OVER)

    def _tell_once(self, what: str, way_out: str) -> None:
        """Say why this is the static form, in one display of this process and while it is live."""
        if what not in _told:
            _told.add(what)
            message = f"{what}: this is the static form"
            self._asides = [{"level": "warning", "field": "", "message": message, "hint": way_out}]

    def _leave_card(self, message: str) -> None:
        form, self._form, self._is_card = self._form, None, False
        if form is not None:
            try:
                form.close(message)
            except Exception:  # noqa: BLE001 - the front end may be gone, and the output is to be replaced all the same
                _log.debug("the card of %s could not be closed", self.run.name, exc_info=True)

    def _file_identity(self) -> int | None:
        """Return what changes when another run takes this one's place under the same name."""
        try:
            return (self.run.folder / "run.json").stat().st_ino
        except OSError:
            return None


_ticker = Ticker()
_busy = Busy(_ticker.repeat)
_at_exit = False


def show(shell: InteractiveShell, run: Run, *, plain: bool = False, waits: bool = False, keeps: bool = False) -> None:
    """Show a run in the cell that is running. Where displays can be updated, it is kept up to date; once a cell.

    `plain`: in its static form only. `waits`: the cell goes on running, so that most kernels hear nothing from a card.
    `keeps`: a run that has ended is shown by a card, too, as long as this kernel lives.
    """
    global _at_exit  # noqa: PLW0603 - one handler a process
    if not can_update(shell):
        Display(shell, run).draw()
        return
    if _ticker.find(run, _cell_of(shell)) is not None:
        _ticker.settle(run)
        return
    if not _at_exit:
        _at_exit = True
        atexit.register(_ticker.close)
    _busy.watch(shell)
    form = _form_maker(shell) if not plain and not waits else None
    _ticker.add(Display(shell, run, form=form, keeps=keeps))


def settle(shell: InteractiveShell, run: Run) -> None:
    """Make sure that what is shown of the run is how it stands now; a terminal shows it anew."""
    if can_update(shell):
        _ticker.settle(run)
    else:
        Display(shell, run).draw()


def close() -> None:
    """Let go of every display of this process."""
    _ticker.close()
    _busy.leave()


def can_update(shell: InteractiveShell) -> bool:
    """Return whether an output can be replaced here. A terminal prints each update below the last."""
    from IPython.core.displaypub import DisplayPublisher

    return type(shell.display_pub) is not DisplayPublisher


def _form_maker(shell: InteractiveShell) -> Callable[[Run], Form] | None:
    """Return what makes live cards; None where there is no kernel to speak through."""
    if getattr(shell, "kernel", None) is None:
        return None

    def make(run: Run) -> Form:
        from jupyter_gpudeploy.notebook.card.form import Form

        return Form(run, _ticker.wake, _busy.is_busy)

    return make


def _cell_of(shell: InteractiveShell) -> object:
    """Return what is the same for everything one execution of a cell shows, and for nothing else."""
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    return parent.get("header", {}).get("msg_id") or shell.execution_count
