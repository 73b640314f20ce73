import pytest

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import check, code_of, differences, header, read, write
from jupyter_gpudeploy.spec.models import Spec, json_schema, likely_goal


def one(text, **options):
    (asked,) = read(text, **options)
    return asked.spec


def problems(text, **options):
    with pytest.raises(SpecError) as caught:
        read(text, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "pydantic" not in str(caught.value).lower()
    return caught.value.problems


def problem(text, **options):
    (only,) = problems(text, **options)
    return only


# --- the two halves of a cell


def test_a_cell_is_a_header_a_line_and_python():
    spec = one("name: digits\ngpus: 1\n---\nimport os\n\nprint(os.getcwd())\n\n")
    assert (spec.name, spec.gpus) == ("digits", 1)
    assert spec.code == "import os\n\nprint(os.getcwd())"


@pytest.mark.parametrize(
    "text",
    [
        "---\nname: x\n---\nprint(1)",
        "\n---\nname: x\n--- \nprint(1)\n",
        "name: x\r\n---\r\nprint(1)\r\n",
        "```yaml\nname: x\n---\nprint(1)\n```",
    ],
    ids=["marker on top", "spaces", "carriage returns", "fences"],
)
def test_a_marker_on_top_and_the_traces_of_pasting_are_tolerated(text):
    assert one(text) == Spec(name="x", code="print(1)")


def test_a_second_line_of_dashes_belongs_to_the_python():
    assert one('name: x\n---\ntext = """\n---\n"""\n').code == 'text = """\n---\n"""'


@pytest.mark.parametrize(
    "code",
    [
        "import torch\nprint(torch.ones(2))",
        "print('hello')",
        "x = 1\nfor n in range(3):\n    x += n",
        'text = """\n---\n"""\nprint(text)',
        "# a comment: with a colon\nloss: float = 1.0\nprint(loss)",
        "---\nprint(1)",
    ],
)
def test_a_cell_that_can_only_be_python_is_python(code):
    spec = one(code)
    assert spec.code == code.removeprefix("---\n")
    assert header(spec) == {}


def test_a_header_alone_is_a_cell():
    assert one("run: train.py\n") == Spec(run="train.py")
    assert one("run: train.py\n---\n\n") == Spec(run="train.py")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "{}\n---\n"])
def test_an_empty_cell_says_what_may_stand_in_it(text):
    assert problem(text).message == "nothing to run"
    assert problem(text).hint == "give run:, serve:, or Python below a line ---"


def test_a_forgotten_line_of_dashes_is_told_where_the_python_begins():
    wrong = problem("name: x\ngpus: 1\nimport os\nprint(os.getcwd())\n")
    assert (wrong.line, wrong.column) == (4, 1)
    assert wrong.message == "this line is no `key: value`"
    assert wrong.hint == "write key: value; Python goes below a line ---"


@pytest.mark.parametrize(("text", "line"), [("train.py", 2), ("- a\n- b", 2), ("\n\nhello world", 4)])
def test_what_is_neither_header_nor_python_is_told_so(text, line):
    wrong = problem(text)
    assert wrong.message == "the header must be lines of `key: value`"
    assert (wrong.line, wrong.column) == (line, 1)
    assert "run: train.py" in wrong.hint


@pytest.mark.parametrize(
    ("code", "line", "column", "message"),
    [
        ("x = 1\nprint((x\n", 5, 7, "'(' was never closed"),
        ("\n\nfor x in y\n  pass", 6, 11, "expected ':'"),
        ("return 1", 4, 1, "outside function"),
        ("x = 1\ny = = 2", 5, 5, "invalid syntax"),
    ],
)
@pytest.mark.fault(46)
def test_python_that_cannot_be_read_is_told_with_its_place_in_the_cell(code, line, column, message):
    wrong = problem(f"name: x\n---\n{code}")
    assert (wrong.line, wrong.column) == (line, column)
    assert message in wrong.message
    assert wrong.excerpt.endswith("^")


def test_a_cell_of_python_alone_has_its_mistake_at_its_own_line():
    assert (problem("import os\nprint(1\n").line, problem("import os\nprint(1\n", first_line=1).line) == (3, 2)


@pytest.mark.parametrize("line", ["%time train()", "!pip install x", "%matplotlib inline"])
def test_ipython_in_the_code_is_told_apart_from_a_mistake(line):
    wrong = problem(f"name: x\n---\nx = 1\n{line}\n")
    assert wrong.message == "the code runs as a plain Python file, and this is IPython"
    assert (wrong.line, wrong.column) == (5, 1)


def test_a_warning_of_the_compiler_is_no_mistake():
    assert one("name: x\n---\nprint('\\d', 1 is 1)\n").code == "print('\\d', 1 is 1)"


def test_mistakes_of_header_and_code_are_told_together():
    assert [wrong.line for wrong in problems("gpus: -1\n---\nprint(\n")] == [2, 4]
    assert [wrong.line for wrong in problems("gpus: [1\n---\nprint(\n")] == [2, 4]


@pytest.mark.parametrize("text", ["name: x\n---\nprint(1)\n\n", "print(1)", "run: x.py\n", ""])
def test_the_python_of_a_cell_can_be_had_alone(text):
    assert code_of(text) == ("print(1)" if "print" in text else None)


# --- unknown keys, wrong values


def test_what_is_known_is_listed_once():
    first, second = problems("run: t.py\nfoo: 1\nzzzzz: 2\n")
    assert first.hint.startswith("known: name, ")
    assert second.hint == "known: see above"


def test_a_key_for_a_secret_is_told_where_secrets_belong():
    wrong = problem("run: t.py\nhf_token: abc\n")
    assert wrong.hint == "for what no cell should hold: secrets: {HF_TOKEN: env:HF_TOKEN}"


def test_a_token_in_the_place_of_a_key_is_told_once():
    assert problem("run: t.py\nhf_abcdefghijklmnopqrstuvwxyz123: x\n").message.startswith("this looks like a token")


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("paramters", "parameters"), ("gpu", "gpus"), ("Name", "name"), ("paralelism", "parallelism"), ("params", "parameters"),
        ("script", "run"), ("timeout", "max_hours"), ("environment", "env"), ("arguments", "args"), ("metrics", "metric"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_told_with_the_one_that_was_meant(key, meant):
    wrong = problem(f"run: train.py\n{key}: 1\n")
    assert wrong.message == f"there is no key {key!r}"
    assert wrong.hint.startswith(f"did you mean {meant!r}?")
    assert (wrong.line, wrong.column, wrong.field) == (3, 1, key)


@pytest.mark.fault(47)
def test_a_key_that_is_like_no_other_is_answered_with_all_of_them():
    hint = problem("run: train.py\nqqqq: 1\n").hint
    assert all(key in hint for key in Spec.model_fields if key != "code")
    assert "code" not in hint


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("metric: {name: loss, gaol: minimize}", (3, 22), "did you mean 'goal'?"),
        ("parameters:\n  lr: {vaules: [1]}", (4, 8), "did you mean 'values'?"),
        ("tracking:\n  backend: wandb\n  projct: x", (5, 3), "did you mean 'project'?"),
    ],
)
def test_unknown_keys_further_in_are_told_the_same_way(text, place, hint):
    first = problems(f"run: train.py\n{text}\n")[0]
    assert (first.line, first.column) == place
    assert first.hint.startswith(hint)


WRONG = [
    ("gpus: -1", 7, "gpus must be 0 or more, not -1"),
    ("gpus: eight", 7, "gpus must be a whole number, not 'eight'"),
    ("gpus: 1.5", 7, "gpus must be a whole number, not 1.5"),
    ("gpus: true", 7, "gpus must be a whole number, not true"),
    ("gpus:", 6, "gpus must be a whole number, not nothing"),
    ("gpus: [1]", 7, "gpus must be a whole number, not a list"),
    ("gpus: '1'", 7, "gpus must be a whole number, not '1'"),
    ("parallelism: 0", 14, "parallelism must be 1 or more, not 0"),
    ("nodes: 0", 8, "nodes must be 1 or more, not 0"),
    ("max_runs: 1e3", 11, "max_runs must be a whole number, not 1000.0"),
    ("memory: lots", 9, "memory: 'lots' is no quantity: write a number and a unit, like 16Gi"),
    ("memory: 16", 9, "memory: 16 is 16 bytes: write a unit, like 16Gi or 256G"),
    ("memory: -1Gi", 9, "memory: '-1Gi' is no quantity: write a number and a unit, like 16Gi"),
    ("memory: [1]", 9, "memory must be text, not a list"),
    ("cpu: 4Gi", 6, "cpu: '4Gi' is no number of processors: write it like 4 or 500m"),
    ("cpu: 0", 6, "cpu must be above 0, not 0"),
    ("max_hours: 2h", 12, "max_hours must be a number, not '2h'"),
    ("max_hours: 0", 12, "max_hours must be above 0, not 0"),
    ("max_hours: .inf", 12, "max_hours must be a finite number"),
    ("seed: 1.0", 7, "seed must be a whole number, not 1.0"),
    ("allow_outside: yes", 16, "allow_outside must be true or false, not 'yes'"),
    ("warm: 1", 7, "warm must be true or false or a list, not 1"),
    ("method: grd", 9, "method must be one of grid, random, ablation, bayes, not 'grd'"),
    ("mode: server", 7, "mode must be one of auto_start, job, manual, not 'server'"),
    ("args: {lr}", 7, "args must be text or a list, not lines of `key: value`"),
    ("args: [a, {b: c}]", 11, "args[1] must be text, not lines of `key: value`"),
    ("env: [A]", 6, "env must be lines of `key: value`"),
    ("env: {1A: x}", 7, "env.1A cannot be an environment variable: letters, digits and _ only, no digit first"),
    ("env: {GPUDEPLOY_RUN: x}", 7, "env.GPUDEPLOY_RUN is one of our own variables: take another name"),
    ('env: {A: "a\\0b"}', 10, "env.A must not hold a NUL character: no program can be given one"),
    ("name: ''", 7, "name is empty"),
    ('name: "a\\nb"', 7, "name must be one line of printable characters"),
    (f"name: {'x' * 201}", 7, "name is longer than 200 characters"),
    ("metric: {goal: maximize}", 9, "metric needs name:"),
    ("metric: {name: loss, goal: small}", 28, "metric.goal must be one of minimize, maximize, not 'small'"),
    ("metric_files: log.csv", 15, "metric_files must be a list, not 'log.csv'"),
    ("parameters: [lr]", 13, "parameters must be lines of `key: value`, not a list"),
    ("parameters: {-x: 1}", 14, "parameters.-x cannot be a parameter: begin with a letter, then letters, digits, _ . -"),
    ("parameters: {lr: [[1]]}", 19, "parameters.lr[0] must be a number, text, true or false, not a list"),
    ("parameters: {lr: {min: a, max: 2}}", 24, "parameters.lr.min must be a number, not 'a'"),
    ("parameters: {lr: {min: 1}}", 18, "parameters.lr is a range and needs both min: and max:"),
    ("parameters: {lr: {min: 2, max: 1}}", 18, "parameters.lr has min 2, which must be below max 1"),
    ("parameters: {lr: {min: 0, max: 1, distribution: log_uniform}}", 18, "parameters.lr is log_uniform and needs a min above 0"),
    ("parameters: {lr: {values: [1], min: 1}}", 18, "parameters.lr takes either values: [..] or min: and max:"),
    ("parameters: {a: {values: [1, 2], flags: [--a, --b]}}", 17, "parameters.a has flags:, which are for the values true and false only"),
    ("parameters: {a: {values: [true], flags: [--a]}}", 41, "parameters.a.flags must be a list of two texts"),
]  # fmt: skip


@pytest.mark.fault(48)
@pytest.mark.parametrize(("text", "column", "message"), WRONG, ids=[text[:40] for text, _, _ in WRONG])
def test_a_wrong_value_is_told_with_its_place_what_it_is_and_what_is_allowed(text, column, message):
    wrong = problem(f"run: train.py\n{text}\n")
    assert wrong.message == message
    assert (wrong.line, wrong.column) == (3, column)


@pytest.mark.fault(48)
def test_a_port_out_of_range_is_told():
    wrong = problem("serve: command\nrun: app {port}\nport: 70000")
    assert wrong.message == "port must be 65535 or less, not 70000"
    assert wrong.hint == "for example port: 8000"


@pytest.mark.fault(48)
def test_every_key_has_an_example_in_its_hint_or_names_what_is_allowed():
    assert problem("run: x.py\ngpus: many").hint == "for example gpus: 1"
    assert problem("run: x.py\nmethod: rnadom").hint == "did you mean 'random'? known: grid, random, ablation, bayes"
    assert problem("run: x.py\nargs: {lr}").hint == "a text that begins with { must stand in quotes"


@pytest.mark.fault(48)
def test_sizes_are_taken_as_people_write_them():
    spec = one("run: x.py\nmemory: 256GB\ncpu: 500m\nhealth: {path: /health, startup: 15m}\nserve: command\nport: 8000")
    assert (spec.memory, spec.cpu, spec.health.startup) == ("256G", 0.5, 900.0)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines():
    found = problems("paramters: {lr: [1]}\ngpus: -1\nserve: vllm\nmode: job\nport: 0\nfoo: 1\nmethod: bayes\n")
    assert [(wrong.line, wrong.field) for wrong in found] == [
        (2, "paramters"), (3, "gpus"), (5, "mode"), (6, "port"), (7, "foo"), (8, "method")
    ]  # fmt: skip


def test_what_a_wrong_key_may_have_meant_is_not_called_missing():
    assert [wrong.field for wrong in problems("runn: train.py\ngpus: -1\n")] == ["runn", "gpus"]
    assert [wrong.field for wrong in problems("run: a.py\nmethod: random\nmax_run: 5\nparameters: {a: [1, 2]}")] == [
        "max_run"
    ]


CONTRADICTIONS = [
    ("serve: vllm\nmode: job", 3, "serve: vllm is a server, mode: job is not"),
    ("run: x.py\n---\nprint(1)", 2, "the program comes twice: run: and the Python below ---"),
    ("entry_point: x.py\n---\nprint(1)", 2, "entry_point: names a script inside the folder of run:, which is missing"),
    ("run: x.py\nport: 80", 3, "port: is for servers, and this is none"),
    ("run: x.py\nreplicas: 2", 3, "replicas: is for servers, and this is none"),
    ("parameters: {a-b: 1}\n---\nprint(1)", 2, "parameter 'a-b' cannot be a Python variable of the code below ---"),
    ("parameters: {class: 1}\n---\nprint(1)", 2, "parameter 'class' cannot be a Python variable of the code below ---"),
    ("run: x.py\nmethod: random\nparameters: {a: [1, 2]}", 3, "method: random needs max_runs:"),
    ("run: x.py\nparameters: {a: {min: 0, max: 1}}", 3, "parameter 'a' is a range: method: grid needs values"),
    ("run: x.py\nenv: {A: x}\nsecrets: [A]", 4, "A is given in env: and in secrets:"),
]


@pytest.mark.parametrize(("text", "line", "message"), CONTRADICTIONS, ids=[message for _, _, message in CONTRADICTIONS])
def test_what_does_not_go_together_is_told_at_its_line(text, line, message):
    wrong = problem(text)
    assert (wrong.message, wrong.line) == (message, line)
    assert wrong.hint


@pytest.mark.parametrize(
    "text",
    [
        "mode: manual",
        "mode: manual\nrun: ./analyze.py",
        "mode: manual\nroute: true",
        "run: x.py\nport: 80\nserve: command",
    ],
)
def test_what_goes_together_is_taken(text):
    assert one(text)


# --- parameters


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[]", "parameters.lr is empty: there is nothing to try"),
        ("{values: []}", "parameters.lr.values is empty: there is nothing to try"),
        ("[0.1, 0.1]", "parameters.lr[1]: 0.1 stands twice in the list of values"),
        ("[a, b, a]", "parameters.lr[2]: 'a' stands twice in the list of values"),
        ("[1, 2, 1.0]", "parameters.lr[2]: 1 and 1.0 are the same number: it stands twice in the list of values"),
        ("[0.3, 0.30000000000000004]", "parameters.lr[1]: 0.3 and 0.30000000000000004 are the same number: it stands twice in the list of values"),
        ("[null, ~]", "parameters.lr[1]: None stands twice in the list of values"),
    ],
)  # fmt: skip
def test_an_axis_that_would_run_nothing_or_the_same_twice_is_refused(values, message):
    assert problem(f"run: x.py\nparameters:\n  lr: {values}").message == message


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        ("0.1", [0.1]), ("[1, true]", [1, True]), ("[0, false]", [0, False]), ("['1', 1]", ["1", 1]), ("adam", ["adam"]),
        ("{value: 3}", [3]), ("{values: [1, 2], distribution: categorical}", [1, 2]), ("[1, .inf]", [1, float("inf")]),
        ("[1e-3, 1e-5]", [0.001, 0.00001]), ("[no, de, fr]", ["no", "de", "fr"]), ("[1, null]", [1, None]),
        (f"[{10**400}, 1.5]", [10**400, 1.5]),
    ],
)  # fmt: skip
def test_values_are_taken_as_they_are(values, read_as):
    parsed = one(f"run: x.py\nparameters:\n  lr: {values}").parameters["lr"].values
    assert parsed == read_as
    assert [type(value) for value in parsed] == [type(value) for value in read_as]


@pytest.mark.fault(45)
def test_words_that_were_switches_in_old_yaml_stay_text_and_are_pointed_out():
    (asked,) = read("run: x.py\nparameters: {country: [no, de], lr: [1e-3]}")
    (remark,) = asked.remarks
    assert (remark.field, remark.level) == ("parameters.country", "info")
    assert remark.message == "no stay text"
    assert asked.spec.parameters["lr"].values == [0.001]


@pytest.mark.fault(53)
def test_bayes_asks_what_it_is_to_improve():
    wrong = problem("run: x.py\nmethod: bayes\nparameters: {lr: {min: 0.1, max: 1}}\nmax_runs: 9")
    assert wrong.message == "method: bayes needs metric:, what is it to improve?"
    assert wrong.hint == "metric: {name: val_acc, goal: maximize}"
    assert (wrong.line, wrong.column) == (3, 9)
    assert (
        one("run: x.py\nmethod: bayes\nmax_runs: 9\nmetric: val_acc\nparameters: {lr: {min: 0.1, max: 1}}").metric.goal
        == "maximize"
    )


def test_bayes_asks_how_many_trials_there_are_to_be():
    wrong = problem("run: x.py\nmetric: loss\nmethod: bayes\nparameters: {lr: {min: 0.1, max: 1}}")
    assert (wrong.message, wrong.hint) == ("method: bayes needs max_runs:", "max_runs: 20")
    assert (wrong.line, wrong.column) == (4, 9)


@pytest.mark.fault(54)
def test_nan_is_no_value_to_try():
    wrong = problem("run: x.py\nparameters: {lr: [0.1, .nan]}")
    assert wrong.message == "parameters.lr[1]: nan is no value to try: it is not even equal to itself"
    assert (wrong.line, wrong.column) == (3, 24)


@pytest.mark.fault(68)
@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "PATH", "BASH_ENV"])
def test_a_parameter_cannot_change_the_program(name):
    wrong = problem(f"run: x.py\nparameters:\n  {name}: [a]")
    assert "would change the program that runs" in wrong.message
    assert (wrong.line, wrong.column) == (4, 3)


@pytest.mark.parametrize(
    ("name", "goal"),
    [("val_acc", "maximize"), ("valAcc", "maximize"), ("top5_acc1", "maximize"), ("mAP", "maximize"), ("F1", "maximize"),
     ("loss", "minimize"), ("val_loss", "minimize"), ("mape", "minimize"), ("perplexity", "minimize"), ("rmse", "minimize")],
)  # fmt: skip
def test_the_better_end_of_a_metric_is_told_by_its_name(name, goal):
    assert likely_goal(name) == goal


def test_text_is_kept_as_it_is_spelled():
    spec = one("name: 2024\nrun: x.py\nenv: {VERSION: 1.10, RATE: 1e-3, ON: True}\nargs: [--lr, 1e-3, 5]")
    assert spec.name == "2024"
    assert spec.env == {"VERSION": "1.10", "RATE": "1e-3", "ON": "True"}
    assert spec.args == ["--lr", "1e-3", "5"]


# --- the magic line


def test_the_magic_line_wins_over_the_header():
    spec = one("name: a\ngpus: 1\nrun: x.py", name="b", overrides={"gpus": 2, "backend": None, "parallelism": "3"})
    assert (spec.name, spec.gpus, spec.backend, spec.parallelism) == ("b", 2, None, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gpus": -1}, "--gpus must be 0 or more, not -1"),
        ({"gpus": "eight"}, "--gpus must be a whole number, not 'eight'"),
        ({"max_hours": "soon"}, "--max-hours must be a number, not 'soon'"),
        ({"gpsu": 1}, "there is no key 'gpsu'"),
    ],
)
def test_a_mistake_on_the_magic_line_is_told_there(overrides, message):
    wrong = problem("run: x.py", overrides=overrides)
    assert wrong.message == message
    assert (wrong.line, wrong.column) == (1, 1)


def test_keys_given_in_python_are_checked_the_same_way():
    assert check({"run": "x.py", "gpus": 1}).spec == Spec(run="x.py", gpus=1)
    assert check({}, code="print(1)\n").spec == Spec(code="print(1)")
    with pytest.raises(SpecError, match="gpus must be 0 or more, not -1") as caught:
        check({"run": "x.py", "gpus": -1})
    assert caught.value.problems[0].line == 0
    with pytest.raises(SpecError, match="did you mean 'parameters'"):
        check({"run": "x.py", "paramters": {}})
    with pytest.raises(SpecError, match="never closed"):
        check({}, code="print(")


# --- what differs


@pytest.mark.fault(43)
def test_a_changed_cell_says_what_differs():
    old = one(
        "name: x\ngpus: 1\nparameters: {lr: [0.1], h: {min: 1, max: 2}}\nmethod: bayes\nmax_runs: 9\nmetric: loss\n---\na = 1\nb = 2\nc = 3\n"
    )
    new = one(
        "name: x\ngpus: 2\nparameters: {lr: [0.1, 0.01], h: {min: 1, max: 3}}\nmethod: bayes\nmax_runs: 9\nmetric: acc\nenv: {A: b}\n---\na = 1\nb = 3\nc = 4\nd = 5\n"
    )
    assert differences(header(old), header(new), old.code, new.code) == [
        "gpus: 1 -> 2",
        "parameters.lr: [0.1] -> [0.1, 0.01]",
        "parameters.h.max: 2.0 -> 3.0",
        "metric.name: loss -> acc",
        "metric.goal: minimize -> maximize",
        "env.A: not given -> b",
        "code: 3 lines differ (first at line 2)",
    ]


def test_a_default_written_out_is_no_difference():
    assert (
        differences(header(one("run: x.py")), header(one("run: x.py\ngpus: 0\nparallelism: 1\nseed: 0\nroute: false")))
        == []
    )


def test_what_was_added_and_taken_away_is_named():
    assert differences({"run": "x.py", "gpus": 2}, {"run": "x.py", "cluster": "lab"}) == [
        "gpus: 2 -> 0",
        "cluster: not given -> lab",
    ]
    assert differences({}, {}, "a\nb", "a") == ["code: 1 line differs (first at line 2)"]
    assert differences({}, {}, None, "a\nb") == ["code: 2 lines differ (first at line 1)"]


# --- the schema


def test_every_key_is_in_the_json_schema_with_a_description():
    schema = json_schema()
    assert set(schema["properties"]) == set(Spec.model_fields) - {"code"}
    for name, part in schema["properties"].items():
        assert part.get("description"), name
    for kind in ("MetricSpec", "TrackingSpec", "HealthSpec"):
        for name, part in schema["$defs"][kind]["properties"].items():
            assert part.get("description"), f"{kind}.{name}"
    for name, part in schema["$defs"]["Parameter"]["anyOf"][-1]["properties"].items():
        assert part.get("description"), name


@pytest.mark.parametrize("name", [name for name in Spec.model_fields if name != "code"])
def test_the_example_of_every_key_is_a_right_one(name):
    for example in Spec.model_fields[name].examples or []:
        others = (
            {"serve": "command"}
            if name in {"port", "health", "replicas", "route", "model", "host", "idle_minutes"}
            else {"run": "x.py"}
        )
        assert check({**others, name: example})


def test_a_cell_written_from_a_spec_is_canonical():
    text = write(
        one(
            'parameters:\n    lr:\n    - 0.1\n    - 1e-2\nname:   "x"\nargs: "--lr {lr}"\nenv: {A: 1}\n---\nprint(1)\n\n'
        )
    )
    assert text == 'name: x\nargs: --lr {lr}\nparameters:\n  lr: [0.1, 0.01]\nenv:\n  A: "1"\n---\nprint(1)\n'
