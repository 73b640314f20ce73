"""The options of a script are read from its text, under names by which a command spells them right."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.arguments import Point, expand
from jupyter_gpudeploy.plan.options import options_of, read_options
from jupyter_gpudeploy.plan.spelling import spelled_in

ARGPARSE = """\
import argparse
LR = 0.01
parser = argparse.ArgumentParser()
parser.add_argument("-l", "--lr", type=float, default=LR, help="step")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--opt", choices=["sgd", "adam"], default="adam")
parser.add_argument("--amp", action="store_true")
parser.add_argument("--no-cache", action="store_false", dest="cache")
parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
parser.add_argument("--tags", nargs="+")
parser.add_argument("-n", type=int, required=True)
parser.add_argument("data")
"""
CLICK = """\
import click
@click.command()
@click.option("--lr", "-l", default=0.01, show_default=True, help="step")
@click.option("--opt", type=click.Choice(["sgd", "adam"]), required=True)
@click.option("--shout/--no-shout", default=False)
@click.option("--fast/--slow", default=True)
@click.option("--amp", is_flag=True)
@click.option("--depth", type=click.IntRange(1, 9))
@click.option("--tag", multiple=True)
@click.argument("data")
def main(**settings): ...
"""
TYPER = """\
import enum
from typing import Annotated, Literal, Optional
import typer
class Opt(str, enum.Enum):
    sgd = "sgd"
    adam = "adam"
def main(data: str, batch_size: int = 32, lr: Annotated[float, typer.Option("--rate", help="step")] = 0.1,
         opt: Opt = Opt.adam, amp: bool = False, mode: Literal["a", "b"] = "a", limit: Optional[int] = None,
         fast: bool = typer.Option(True, "--fast/--slow"), tags: list[str] = [], *, seed: int = typer.Option(0, help="s")):
    ...
typer.run(main)
"""


def found(code):
    return {option.name: option for option in options_of(code).options}


def test_argparse_tells_types_defaults_choices_and_help():
    options = found(ARGPARSE)
    assert list(options) == ["lr", "batch_size", "opt", "amp", "no_cache", "compile", "tags", "n", "data"]
    assert options["lr"][:6] == ("lr", "--lr", "number", 0.01, (), "step")
    assert (options["batch_size"].kind, options["batch_size"].default) == ("integer", 32)
    assert options["opt"].choices == ("sgd", "adam")
    assert options["amp"].flags == ("--amp", "")
    assert (options["no_cache"].flags, options["no_cache"].default) == (("", "--no-cache"), True)
    assert (options["compile"].kind, options["compile"].flags) == ("switch", None)
    assert options["tags"].is_list
    assert (options["n"].words, options["n"].required) == ("-n {n}", True)
    assert (options["data"].words, options["data"].required) == ("{data}", True)


def test_click_tells_the_same():
    options = found(CLICK)
    assert list(options) == ["lr", "opt", "shout", "fast", "amp", "depth", "tag", "data"]
    assert (options["lr"].kind, options["lr"].default, options["lr"].help) == ("number", 0.01, "step")
    assert (options["opt"].choices, options["opt"].required) == (("sgd", "adam"), True)
    assert (options["shout"].kind, options["shout"].flags) == ("switch", None)
    assert options["fast"].flags == ("--fast", "--slow")
    assert options["amp"].flags == ("--amp", "")
    assert options["depth"].kind == "integer"
    assert options["tag"].is_list
    assert options["data"].words == "{data}"


def test_typer_tells_the_same():
    options = found(TYPER)
    assert set(options) == {"data", "batch-size", "rate", "opt", "amp", "mode", "limit", "fast", "tags", "seed"}
    assert (options["batch-size"].kind, options["batch-size"].default) == ("integer", 32)
    assert (options["rate"].kind, options["rate"].help) == ("number", "step")
    assert (options["opt"].choices, options["opt"].default) == (("sgd", "adam"), "adam")
    assert (options["amp"].kind, options["amp"].flags) == ("switch", None)
    assert options["mode"].choices == ("a", "b")
    assert options["limit"].kind == "integer"
    assert options["fast"].flags == ("--fast", "--slow")
    assert options["tags"].is_list
    assert options["data"].words == "{data}"


def test_subcommands_are_told():
    code = "import argparse\np = argparse.ArgumentParser()\ns = p.add_subparsers()\nt = s.add_parser('train')\nt.add_argument('--lr')\n"
    read = options_of(code)
    assert read.options[0].command == "train"
    assert "subcommands (train)" in read.notes[0]


def test_what_is_made_while_the_script_runs_is_not_guessed():
    read = options_of("for n in range(3):\n    parser.add_argument(f'--x{n}')\n")
    assert read.options == ()
    assert read.notes == ("line 2: an option is made while the script runs",)


def test_nothing_of_the_script_is_run(tmp_path):
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nparser.add_argument('--lr', default=__import__('os').getpid())\n"
    )
    (option,) = read_options("evil.py", tmp_path).options
    assert option.default is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"def broken(:\n", "line 1"),
        (b"x = '\0'\n", "no Python"),
        (b"\xff\xfe\x00", "no Python"),
        (b"(" * 5000 + b")" * 5000, "no Python"),
        (b"x = " + b"-" * 20000 + b"1", "no Python"),
        (b"#" * (1 << 20) + b"\n", "longer than 1 MiB"),
    ],
)
def test_a_hostile_or_broken_file_gets_a_clear_answer(tmp_path, content, told):
    (tmp_path / "s.py").write_bytes(content)
    with pytest.raises(PlanError, match=told):
        read_options("s.py", tmp_path)


def test_a_file_outside_the_folder_or_of_another_kind_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.py").write_text("")
    (tmp_path / "in" / "run.sh").write_text("")
    with pytest.raises(PlanError, match="outside"):
        read_options("../out.py", tmp_path / "in")
    with pytest.raises(PlanError, match="no Python file"):
        read_options("run.sh", tmp_path / "in")


names = st.from_regex(r"[a-z][a-z]{1,5}([-_][a-z]{1,4})?", fullmatch=True)
KINDS = {
    "int": (int, st.integers(-99, 99)),
    "float": (float, st.floats(-9, 9)),
    "str": (str, st.text("ab -=", min_size=1).filter(lambda text: text != "--")),
    "flag": (bool, st.booleans()),
}


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(names, st.sampled_from(sorted(KINDS)), min_size=1, max_size=4), st.data())
def test_the_arguments_that_are_appended_are_those_that_the_script_takes(wanted, data):
    lines = ["import argparse", "parser = argparse.ArgumentParser(allow_abbrev=False)"]
    wanted = {
        name: kind
        for name, kind in wanted.items()
        if name.replace("_", "-") == name or name.replace("_", "-") not in wanted
    }
    for name, kind in wanted.items():
        how = "action=argparse.BooleanOptionalAction" if kind == "flag" else f"type={kind}"
        lines.append(f'parser.add_argument("--{name}", {how})')
    code = "\n".join(lines)
    options = options_of(code).options
    assert len(options) == len(wanted)
    point = {option.name: data.draw(KINDS[wanted[option.flag[2:]]][1]) for option in options}
    flags = {option.name: option.flags for option in options if option.flags}
    argv = expand([], Point(point, flags=flags, options=spelled_in(code, point)), append=True)
    scope = {}
    exec(code, scope)  # noqa: S102 - a parser that this test wrote
    parsed = vars(scope["parser"].parse_args(["".join(map(str, parts)) for parts in argv]))
    assert parsed == {option.flag[2:].replace("-", "_"): point[option.name] for option in options}


@pytest.mark.parametrize("value", [True, False])
def test_a_switch_without_a_way_back_is_left_out_when_it_is_off(value):
    (option,) = options_of("parser.add_argument('--use-amp', action='store_true')").options
    argv = expand([], Point({option.name: value}, flags={option.name: option.flags}), append=True)
    assert argv == ((("--use-amp",),) if value else ())
