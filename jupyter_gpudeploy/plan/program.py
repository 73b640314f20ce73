"""What runs: the cell's code, a script, a folder with an entry point, a notebook, a command, or a server."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan import sources
from jupyter_gpudeploy.plan.injection import check_defaults, program
from jupyter_gpudeploy.plan.types import Slot, Source, Word, word
from jupyter_gpudeploy.registry import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.servers.base import ServerPreset
    from jupyter_gpudeploy.spec.models import Spec

CODE_FILE = "cell.py"
_PROGRAM_SUFFIXES = frozenset({".py", ".sh", ".bash", ".pl", ".r", ".jl", ".js", ".ipynb"})
_HASHED_SIZE = 16 * 2**20
SERVERS = Family("jupyter_gpudeploy.servers")


class Program(NamedTuple):
    """`lead` are fixed words, `words` those in which parameters are placed; `append`: the others follow as options.

    `digest` changes exactly when the user's text does. `script` is set for what a warm start can fork.
    """

    what: str
    lead: tuple[Word, ...] = ()
    words: tuple[str, ...] = ()
    append: bool = True
    files: Mapping[str, str] = MappingProxyType({})
    sources: tuple[Source, ...] = ()
    working_dir: Path | None = None
    script: Word | None = None
    module: Word | None = None
    digest: str = ""
    needs_module: str | None = None
    links: tuple[str, ...] = ()


def program_of(spec: Spec, base: Path, cell: str) -> Program:
    """Return what the cell runs. Raises PlanError."""
    if spec.code is not None:
        return _code(spec, cell)
    if spec.run is None:
        return Program("nothing but what is started in it" if spec.mode == "manual" else "a server")
    if isinstance(spec.run, str):
        return _from_text(spec.run, spec, base)
    return _command(list(spec.run), spec, base)


def source_word(file: Path, base: Path) -> Word:
    """Return the word that names a user's file: below the notebook's folder wherever the task runs, else its path."""
    base = base.resolve()
    return word(Slot.SOURCES, f"/{file.relative_to(base)}") if file.is_relative_to(base) else word(str(file))


def split_words(value: str | Sequence[str], field: str) -> tuple[str, ...]:
    """Return the words of `args` or of a command, quotes understood as a shell would."""
    if not isinstance(value, str):
        return tuple(value)
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise PlanError(f"{field}: {value!r}: {error}", hint="close the quote, or give a list of words") from None


def preset(name: str) -> ServerPreset:
    """Return what is known of a server. Raises GpuDeployError that names the known ones."""
    loaded: ServerPreset = SERVERS.load(name)
    return loaded


def _code(spec: Spec, cell: str) -> Program:
    code = spec.code or ""
    names = list(spec.parameters)
    check_defaults(code, names)
    text = program(code, names, _lines_above(code, cell))
    script = word(Slot.CODE, "/", CODE_FILE)
    return Program(
        what="the code of the cell",
        lead=(word(Slot.PYTHON), script),
        words=split_words(spec.args, "args"),
        append=False,
        files={CODE_FILE: text},
        script=script,
        module=script,
        digest=code,
    )


def _lines_above(code: str, cell: str) -> list[str]:
    """Return the lines of the cell above its code; the first stands for the line of the magic itself."""
    start = cell.rfind(code) if code else -1
    above = cell[:start].split("\n")[:-1] if start > 0 else []
    return ["%%deploy", *above]


def _from_text(text: str, spec: Spec, base: Path) -> Program:
    allow = spec.allow_outside
    words = (text,) if (base / text).is_file() else split_words(text, "run")
    if not words:
        raise PlanError("run: is empty", hint="name a script, a folder, a notebook or a command")
    first = words[0]
    single = len(words) == 1
    if spec.entry_point is not None or (single and _is_folder(text, base)):
        return _folder(sources.locate(text, base, allow_outside=allow), spec, base)
    if single and spec.serve in {"fastapi", "flask"}:
        return _module(text, spec, base)
    if first.endswith(".ipynb") and single:
        return _notebook(sources.locate(first, base, allow_outside=allow), spec, base)
    if first.endswith(".py"):
        return _script(sources.locate(first, base, allow_outside=allow), spec, base, words[1:])
    return _command(list(words), spec, base)


def _is_folder(text: str, base: Path) -> bool:
    return text.endswith("/") or (base / Path(text).expanduser()).is_dir()


def _script(file: Path, spec: Spec, base: Path, more: Sequence[str] = ()) -> Program:
    source = sources.source_of(file)
    script = source_word(file, base)
    return Program(
        what=file.name,
        lead=(word(Slot.PYTHON), script),
        words=(*more, *split_words(spec.args, "args")),
        sources=(source,),
        script=script,
        digest=source.sha256,
    )


def _folder(folder: Path, spec: Spec, base: Path) -> Program:
    if spec.entry_point is None:
        scripts = sorted(file.name for file in folder.glob("*.py"))
        raise PlanError(
            f"{folder.name}/ is a folder: which script in it?", hint=f"entry_point: one of {', '.join(scripts) or '-'}"
        )
    entry = sources.locate(spec.entry_point, folder, allow_outside=False)
    if entry.suffix != ".py":
        raise PlanError(f"entry_point: {spec.entry_point!r} is no Python script", hint="or run: the command itself")
    return Program(
        what=f"{folder.name}/{spec.entry_point}",
        lead=(word(Slot.PYTHON), source_word(entry, base)),
        words=split_words(spec.args, "args"),
        sources=(sources.source_of(entry),),
        working_dir=folder,
        script=source_word(entry, base),
        digest=sources.folder_digest(folder),
        links=tuple(sources.links_outside(folder)),
    )


def _notebook(file: Path, spec: Spec, base: Path) -> Program:
    if spec.args:
        raise PlanError("a notebook takes no args:", hint="parameters: are put into its cell tagged `parameters`")
    source = sources.source_of(file)
    runner = (word(Slot.PYTHON), word("-m"), word("jupyter_gpudeploy.programs.notebook"))
    return Program(
        what=file.name,
        lead=(*runner, source_word(file, base), word(Slot.OUTPUT, "/", file.name)),
        append=False,
        sources=(source,),
        digest=source.sha256,
        needs_module="nbclient",
    )


def _module(text: str, spec: Spec, base: Path) -> Program:
    file = sources.locate(text, base, allow_outside=spec.allow_outside)
    source = sources.source_of(file)
    return Program(
        what=file.name,
        words=split_words(spec.args, "args"),
        append=False,
        sources=(source,),
        module=source_word(file, base),
        digest=source.sha256,
    )


def _command(words: list[str], spec: Spec, base: Path) -> Program:
    more = split_words(spec.args, "args")
    used = tuple(sources.source_of(file) for file in _files_of(words, spec, base))
    python = words[0] in {"python", "python3"}
    return Program(
        what=" ".join([*words, *more]),
        lead=(word(Slot.PYTHON),) if python else (),
        words=(*(words[1:] if python else words), *more),
        append=spec.serve is None,
        sources=used,
        digest="".join(source.sha256 for source in used),
    )


def _files_of(words: Sequence[str], spec: Spec, base: Path) -> list[Path]:
    """Return the files that a command names; of these, what an interpreter runs must lie where sources may lie."""
    found = []
    for position, text in enumerate(words[1:], start=1):
        if text.startswith("-") or "{" in text or "\n" in text or not (base / Path(text)).is_file():
            continue
        is_program = Path(text).suffix in _PROGRAM_SUFFIXES and not words[position - 1].startswith("--")
        if is_program:
            found.append(sources.locate(text, base, allow_outside=spec.allow_outside))
        elif (base / text).resolve().is_relative_to(base.resolve()) and (base / text).stat().st_size <= _HASHED_SIZE:
            found.append((base / text).resolve())
    return found
