from __future__ import annotations

import pytest

from jupyter_gpudeploy.notebook import completion
from jupyter_gpudeploy.notebook.completion import complete


def words(text):
    """Return what is offered at the end of the text."""
    lines = text.split("\n")
    return [word for word, _ in complete(text, len(lines) - 1, len(lines[-1]))[1]]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%deploy st", ["status", "stop"]),
        ("table = %deploy res", ["results", "resume"]),
        ("a, b = %deploy wat", ["watch"]),
        ("%deploy logs x --t", ["--trial", "--task", "--tail"]),
        ("%deploy help cl", ["clean"]),
        ("%deploy ls --backend lo", ["local"]),
        ("%deploy logs x --tail ", []),
        ("%%deploy --re", ["--replace", "--resume"]),
        ("%%deploy pl", ["plan"]),
        ("%%deploy plan --ba", ["--backend"]),
        ("%%deploy --backend l", ["local"]),
        ("%%deploy\nparam", ["parameters:"]),
        ("%%deploy\nname: x\nmeth", ["method:"]),
        ("%%deploy\nmethod: ", ["grid", "random", "ablation", "bayes"]),
        ("%%deploy\nmethod: ra", ["random"]),
        ("%%deploy\nserve: fl", ["flask"]),
        ("%%deploy\nroute: ", ["true", "false"]),
        ("%%deploy\nmetric:\n  go", ["goal:"]),
        ("%%deploy\nmetric:\n  goal: ma", ["maximize"]),
        ("%%deploy\nparameters:\n  lr:\n    dist", ["distribution:"]),
        ("%%deploy\nparameters:\n  lr:\n    distribution: log_u", ["log_uniform"]),
        ("%%deploy\nparameters:\n  lr:\n    min: 1\nmetr", ["metric:", "metric_files:"]),
        ("%%deploy\nname: x\n---\nimport pa", []),
        ("%%deploy\nrun: tr", []),
        ("print('%deploy st", []),
        ("%timeit dep", []),
        ("%deployx st", []),
    ],
)
def test_words_come_from_where_they_are_defined(text, offered):
    assert words(text) == offered


def test_every_key_of_a_cell_is_offered():
    from jupyter_gpudeploy.spec.models import json_schema

    assert {word.removesuffix(":") for word in words("%%deploy\n")} == set(json_schema()["properties"])


def test_runs_are_offered_where_a_name_belongs(shell):
    shell.run_cell_magic("deploy", "--wait", "name: alpha\n---\nprint(1)\n")
    assert words("%deploy status ") == ["alpha"]
    assert words("%deploy stop al") == ["alpha"]
    assert words("%deploy ls ") == []


def test_the_shell_asks_us_first_and_only_where_we_know(shell):
    from IPython.core.completer import provisionalcompleter

    (matcher,) = [one for one in shell.Completer.custom_matchers if one.matcher_identifier == completion.IDENTIFIER]
    assert matcher.matcher_api_version == 2
    with provisionalcompleter():
        assert [one.text for one in shell.Completer.completions("%deploy pl", 10)] == ["plan"]
        assert "sum" in [one.text for one in shell.Completer.completions("su", 2)]
