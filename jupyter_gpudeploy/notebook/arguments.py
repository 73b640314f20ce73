"""The line behind `%deploy` and `%%deploy`: one table of verbs and options for the parser, the help, the completion.

Written by hand because a wrong line must be our own error that names the nearest word: argparse exits, and IPython's
UsageError is not seen by nbval as a failing cell.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.errors import GpuDeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Arguments:
    """What was asked. `names` are runs; `command` is what stands behind `exec NAME --`, word by word."""

    output: str | None = None
    name: str | None = None
    backend: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    gpus: int | None = None
    wait: bool = False
    dry_run: bool = False
    replace: bool = False
    resume: bool = False
    take_over: bool = False
    plain: bool = False
    follow: bool = False
    yes: bool = False
    all: bool = False
    whole: bool = False
    help: bool = False
    tail: int | None = None
    trial: int | None = None
    grace: float | None = None
    timeout: float | None = None
    older: float | None = None
    port: int | None = None
    app: str | None = None
    to: str | None = None
    path: str | None = None
    key: str | None = None

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.names: list[str] = []
        self.command: list[str] = []


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _seconds(text: str) -> float:
    from jupyter_gpudeploy.quantities import parse_seconds

    return parse_seconds(text)


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"{text!r} cannot be the name of a variable")
    return text


class Option(NamedTuple):
    """One option. `value` is what stands behind it in the help; an empty one makes it a switch."""

    field: str
    flags: tuple[str, ...]
    help: str
    value: str = ""
    convert: Callable[[str], Any] = str


OPTIONS = {
    option.field: option
    for option in (
        Option("output", ("-o", "--output"), "store the result in this variable", "VAR", _variable),
        Option("name", ("--name",), "what the run is called", "NAME"),
        Option("backend", ("--backend",), "where it runs", "BACKEND"),
        Option("cluster", ("--cluster",), "the cluster: a profile of the settings file, or a context", "CLUSTER"),
        Option("namespace", ("--namespace",), "the namespace on it", "NAMESPACE"),
        Option("gpus", ("--gpus",), "GPUs of each trial or replica", "N", _whole),
        Option("wait", ("--wait",), "wait until it has ended; fail where it fails"),
        Option("dry_run", ("--dry-run",), "show the plan, start nothing"),
        Option("replace", ("--replace",), "put this in the place of the run of that name"),
        Option("resume", ("--resume",), "go on with what a lost or stopped run left undone"),
        Option("take_over", ("--take-over",), "drive it from here, away from another kernel or person"),
        Option("plain", ("--plain",), "no live card: a still picture that is replaced once a second"),
        Option("tail", ("--tail",), "only the last N lines", "N", _whole),
        Option("follow", ("-f", "--follow"), "go on with what is printed from now on"),
        Option("trial", ("--trial", "--task"), "the number of the trial, replica or command", "N", _whole),
        Option("grace", ("--grace",), "seconds between asking and killing", "SECONDS", _seconds),
        Option("timeout", ("--timeout",), "wait at most so long: 90s, 15m", "TIME", _seconds),
        Option("older", ("--older",), "those that ended longer ago: 12h, 7d", "AGE", _seconds),
        Option("port", ("--port",), "the port, where it is not the server's", "PORT", _whole),
        Option("app", ("--app",), "jupyter or code-server, started where it does not run", "APP"),
        Option("to", ("--to",), "into this folder; its name unless said", "FOLDER"),
        Option("path", ("--path",), "a file or folder below the output folder", "PATH"),
        Option("key", ("--key",), "the key inside the Secret: token unless said", "KEY"),
        Option("all", ("--all",), "every run"),
        Option("whole", ("--all",), "every line, however many there are"),
        Option("yes", ("-y", "--yes"), "do it without asking back"),
        Option("help", ("-h", "--help"), "say what can be written here"),
    )
}


class Verb(NamedTuple):
    """One verb: what stands behind it, what it does, which options go with it."""

    operands: str
    help: str
    options: tuple[str, ...] = ()


_WHERE = ("backend", "cluster", "namespace")
START = Verb(
    "[NAME]",
    "start what the cell says",
    ("output", "wait", "dry_run", "replace", "resume", "take_over", "name", *_WHERE, "gpus", "plain"),
)
CELL_VERBS = {
    "plan": Verb("[NAME]", "show what the cell would start", ("output", "name", *_WHERE, "gpus", "plain")),
    "show": Verb("[NAME]", "print the files the cell would write", ("output", "name", *_WHERE, "gpus")),
    "diff": Verb("[NAME]", "what the cell would change of the run of that name", ("output", "name", *_WHERE, "gpus")),
    "wizard": Verb("[NAME]", "edit the cell in a form, which writes it anew", ()),
}
VERBS = {
    "help": Verb("[VERB]", "what can be written here"),
    "wizard": Verb("[NAME]", "a form that writes a cell; filled from that run", ("output", *_WHERE)),
    "ls": Verb("", "every run, newest first", ("output", *_WHERE)),
    "top": Verb("", "what the running runs use now: GPUs, memory, hours; idle ones are marked", ("output", *_WHERE)),
    "status": Verb("NAME", "where a run stands now", ("output", *_WHERE)),
    "attach": Verb("NAME", "the run, with a display that follows it", ("output", *_WHERE)),
    "watch": Verb("NAME", "show the card of a run again, with its history", ("output", "plain", *_WHERE)),
    "wait": Verb("NAME", "wait until it has ended; fail where it failed", ("output", "timeout", "plain", *_WHERE)),
    "results": Verb("NAME ...", "one row a trial; of several runs, a comparison", ("output", *_WHERE)),
    "logs": Verb(
        "NAME", "what it printed; of a long log the end", ("output", "trial", "tail", "whole", "follow", *_WHERE)
    ),
    "exec": Verb("NAME -- COMMAND", "run a command in a manual run", ("output", *_WHERE)),
    "forward": Verb(
        "NAME", "a URL of this machine that leads to a port of it", ("output", "port", "app", "trial", *_WHERE)
    ),
    "download": Verb("NAME", "copy what it left in its output folder", ("output", "to", "trial", "path", *_WHERE)),
    "secret": Verb("NAME", "ask for a value, and keep it in a Secret of the cluster", ("key", *_WHERE)),
    "doctor": Verb("", "what is there, what we may do, what is free", ("output", *_WHERE)),
    "stop": Verb(
        "NAME ...", "end it, and everything it started", ("output", "grace", "all", "yes", "take_over", *_WHERE)
    ),
    "resume": Verb(
        "NAME", "go on with what a lost or stopped run left undone", ("output", "wait", "plain", "take_over", *_WHERE)
    ),
    "pause": Verb("NAME", "let nothing of it run; what runs begins anew later", ("output", *_WHERE)),
    "unpause": Verb("NAME", "let a paused run go on", ("output", *_WHERE)),
    "parallelism": Verb("NAME [N]", "how many tasks run at once, or from now on", ("output", *_WHERE)),
    "plan": Verb("NAME", "what was decided when it was started", ("output", *_WHERE)),
    "show": Verb("NAME", "the cell and the record it was started from", ("output", *_WHERE)),
    "clean": Verb(
        "NAME ...",
        "delete what is kept of runs that have ended",
        ("output", "all", "older", "yes", "take_over", *_WHERE),
    ),
}


def parse_line(line: str) -> Arguments:
    """Return what `%deploy LINE` asks for; a `;` at its end is IPython's sign for silence. Raises GpuDeployError."""
    words = _split(line.rstrip().removesuffix(";"))
    if not words or words[0] in OPTIONS["help"].flags:
        return Arguments("help")
    verb = words.pop(0)
    if verb not in VERBS:
        raise GpuDeployError(f"%deploy knows no verb {verb!r}", hint=_nearest(verb, VERBS))
    return _parse(verb, VERBS[verb], words, f"%deploy {verb}")


def parse_cell_line(line: str) -> Arguments:
    """Return what the first line of a `%%deploy` cell asks for. Raises GpuDeployError."""
    words = _split(line)
    verb = words.pop(0) if words and words[0] in CELL_VERBS else "start"
    form = START if verb == "start" else CELL_VERBS[verb]
    arguments = _parse(verb, form, words, "%%deploy" if verb == "start" else f"%%deploy {verb}")
    if arguments.names:
        (name,) = arguments.names
        if arguments.name not in (None, name):
            raise GpuDeployError(f"the run has two names: {name} and {arguments.name}", hint="give one")
        arguments.name = name
    return arguments


def usage(verb: str, *, cell: bool = False) -> str:
    """Return one line: what can be written, `%deploy logs NAME [--trial N] [--tail N] [-f]`."""
    known = (CELL_VERBS | {"start": START}) if cell else VERBS
    words = ["%%deploy" if cell else "%deploy"] + [verb] * (verb != "start")
    words += [known[verb].operands] if known[verb].operands else []
    return " ".join(words + [f"[{_form(OPTIONS[name])}]" for name in known[verb].options])


def help_text(verb: str | None = None, *, cell: bool = False) -> str:
    """Return the help: of one verb with its options, or of everything. Raises GpuDeployError for an unknown verb."""
    if verb is None and not cell:
        return _whole_help()
    verb = verb or "start"
    known = (CELL_VERBS | {"start": START}) if cell else VERBS
    if verb not in known:
        raise GpuDeployError(f"%deploy knows no verb {verb!r}", hint=_nearest(verb, known))
    lines = [usage(verb, cell=cell), "", f"  {known[verb].help}", ""]
    return "\n".join(lines + _option_lines(known[verb].options)).rstrip() + "\n"


def _whole_help() -> str:
    verbs = [f"  %deploy {name + ' ' + verb.operands:<22} {verb.help}" for name, verb in VERBS.items()]
    in_cell = [f"  %%deploy {name + ' [NAME]':<21} {verb.help}" for name, verb in CELL_VERBS.items()]
    return "\n".join(
        [
            "%%deploy [NAME] [options]        start what the cell says, and show it while it runs",
            *in_cell,
            *_option_lines(START.options),
            "",
            "%deploy VERB [NAME] [options]    see and drive what was started: df = %deploy results NAME",
            *verbs,
            "",
            "%deploy VERB --help tells the options of a verb. The last run started is also in the variable _deploy.",
            "",
        ]
    )


def _option_lines(names: tuple[str, ...]) -> list[str]:
    lines = []
    for option in (OPTIONS[name] for name in names):
        form = ", ".join(option.flags) + (f" {option.value}" if option.value else "")
        lines.append(f"      {form:<18} {option.help}")
    return lines


def _form(option: Option) -> str:
    return option.flags[0] + (f" {option.value}" if option.value else "")


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise GpuDeployError(f"cannot read {line.strip()!r}: {str(error).lower()}", hint="close the quote") from None


def _parse(verb: str, form: Verb, words: list[str], start: str) -> Arguments:
    arguments = Arguments(verb)
    words, takes_command = list(words), form.operands.endswith("COMMAND")
    while words:
        word = words.pop(0)
        if word == "--" and takes_command:
            arguments.command = words
            break
        if word.startswith("-") and word != "-":
            _take_option(arguments, form, word, words, start)
        elif takes_command and arguments.names:
            arguments.command = [word, *words]
            break
        else:
            arguments.names.append(word)
    if not arguments.help:
        _check_operands(arguments, form, start)
    return arguments


def _take_option(arguments: Arguments, form: Verb, word: str, words: list[str], start: str) -> None:
    flag, equals, value = word.partition("=")
    option = next((OPTIONS[name] for name in (*form.options, "help") if flag in OPTIONS[name].flags), None)
    if option is None:
        raise _unknown_option(form, flag, start)
    if not option.value:
        if equals:
            raise GpuDeployError(f"{flag} takes no value", hint=f"write {flag} alone")
        setattr(arguments, option.field, True)
        return
    if not equals:
        if not words or words[0].startswith("--"):
            raise GpuDeployError(f"{flag} needs a value", hint=f"{start} {_form(option)}")
        value = words.pop(0)
    try:
        setattr(arguments, option.field, option.convert(value))
    except ValueError as error:
        raise GpuDeployError(f"{flag}: {error}", hint=f"{start} {_form(option)}") from None


def _unknown_option(form: Verb, flag: str, start: str) -> GpuDeployError:
    flags = [known for name in (*form.options, "help") for known in OPTIONS[name].flags if known.startswith("--")]
    if any(flag in option.flags for option in OPTIONS.values()):
        return GpuDeployError(f"{flag} does not go with {start}", hint="its options: " + " ".join(flags))
    return GpuDeployError(f"{start} knows no option {flag}", hint=_nearest(flag, flags))


def _check_operands(arguments: Arguments, form: Verb, start: str) -> None:
    names, operands = arguments.names, form.operands
    usage_line = f"usage: {start} {operands}".rstrip()
    if operands.startswith("NAME") and not names and not (arguments.all or arguments.older is not None):
        raise GpuDeployError(f"{start} needs the name of a run", hint=f"{usage_line}; %deploy ls lists them")
    if operands.startswith("NAME") and names and (arguments.all or arguments.older is not None):
        raise GpuDeployError(f"{start}: a name and --all or --older exclude each other", hint=usage_line)
    most = None if operands.endswith("...") else len(operands.split())
    if most is not None and len(names) > most:
        raise GpuDeployError(f"{start}: {names[most]!r} is too much", hint=usage_line)
    if operands.endswith("COMMAND") and not arguments.command:
        raise GpuDeployError(f"{start} needs a command", hint=usage_line)


def _nearest(word: str, known: Iterable[str]) -> str:
    from jupyter_gpudeploy.registry import did_you_mean

    return did_you_mean(word, known)
