import json
import traceback

import pytest

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import check, header, read, write
from jupyter_gpudeploy.spec.lines import Lines
from jupyter_gpudeploy.spec.models import secret_like
from jupyter_gpudeploy.spec.tokens import hide

# Built from parts, so that this file holds no token either.
BODY = "Zq8Lm3Rt7Xk2Wn5Vb9Cy4Hd6Jf1Gs0Pa"
TOKENS = {
    "Hugging Face": "hf_" + BODY,
    "OpenAI": "sk-" + "proj-" + BODY,
    "lower case key": "sk-" + BODY.lower(),
    "GitHub": "ghp_" + BODY + "1234",
    "GitHub fine": "github_pat_" + BODY,
    "GitLab": "glpat-" + BODY[:20],
    "AWS": "AKIA" + "Q7EXAMPLE0KEY1AB",
    "Google": "AIza" + BODY + "abc",
    "Slack": "xoxb-" + "123456789012-" + BODY,
    "NVIDIA": "nvapi-" + BODY,
    "W&B": "wandb_v1_" + BODY,
    "JWT": "eyJ" + BODY + "." + BODY + "." + BODY,
}
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + BODY + "\n-----END RSA PRIVATE KEY-----"


def everything(error):
    """Every text that an exception can show, its chain and its frames' formatted traceback included."""
    seen, texts = set(), []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [str(one), repr(one), repr(one.args), repr(vars(one)), *getattr(one, "__notes__", [])]
        texts += one._render_traceback_() if hasattr(one, "_render_traceback_") else []
        waiting += [one.__cause__, one.__context__]
    texts += traceback.format_exception(error, chain=True)
    return "\n".join(texts)


CELLS = {
    "env": "run: x.py\nenv: {{HF_TOKEN: {0}}}",
    "name": "run: x.py\nname: {0}",
    "args": "run: x.py\nargs: --token {0} --epochs 3",
    "parameter": "run: x.py\nparameters: {{token: [{0}]}}",
    "secrets": "run: x.py\nsecrets: {{HF_TOKEN: {0}}}",
    "secrets list": "run: x.py\nsecrets: [{0}]",
    "env name": "run: x.py\nenv: {{{0}: x}}",
    "unknown key": "run: x.py\n{0}: x",
    "wrong type": "run: x.py\ngpus: {0}",
    "wrong choice": "run: x.py\nmethod: {0}",
    "comment": "run: x.py\n# my token is {0}",
    "code": "name: x\n---\nimport os\nos.environ['HF_TOKEN'] = '{0}'",
    "broken code": "name: x\n---\nlogin(token='{0}'",
    "broken yaml": "run: x.py\nenv: {{A: '{0}",
    "tag": "run: x.py\nenv: !secret {0}",
    "twice": "run: x.py\n{0}: 1\n{0}: 2",
    "wrong elsewhere": "run: x.py\ngpus: -1\nenv: {{A: {0}}}\nfoo: {0}",
    "guide": "application: {{source: {{path: 'python x.py --token {0}'}}}}",
    "guide key": "application: {{{0}: 1}}",
    "transcript": "make wizard PROJECT=x\n# - Command: python x.py --token {0}\n# - Resources: {0}",
}


@pytest.mark.fault(69)
@pytest.mark.parametrize("where", CELLS)
@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_in_a_cell_is_refused_and_never_repeated(kind, where):
    token = TOKENS[kind]
    text = CELLS[where].format(token)
    with pytest.raises(SpecError) as caught:
        read(text)
    said = everything(caught.value)
    assert token not in said
    assert BODY[:12].lower() not in said.lower()
    line, column = Lines(text, 2).place(text.index(token))
    (first, *_) = [wrong for wrong in caught.value.problems if "looks like a token" in wrong.message]
    assert (first.line, first.column) == (line, column)
    assert "secrets: {NAME: env:NAME}" in first.hint


@pytest.mark.fault(69)
@pytest.mark.parametrize("text", ["name: x\n---\nkey = '''{0}'''", "run: x.py\ndescription: |\n  {0}"])
def test_a_private_key_is_refused_and_never_repeated(text):
    with pytest.raises(SpecError) as caught:
        read(text.format(KEY.replace("\n", "\n  ") if "|" in text else KEY))
    assert BODY not in everything(caught.value)


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    "options",
    [
        {"name": TOKENS["GitHub"]},
        {"overrides": {"args": ["--t", TOKENS["GitHub"]]}},
        {"overrides": {TOKENS["GitHub"]: 1}},
    ],
)
def test_a_token_on_the_magic_line_is_refused_and_never_repeated(options):
    with pytest.raises(SpecError, match="looks like a token") as caught:
        read("run: x.py", **options)
    assert BODY not in everything(caught.value)


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    ("values", "code"),
    [({"run": "x.py", "env": {"A": TOKENS["AWS"]}}, None), ({"run": ["x", TOKENS["AWS"]]}, None), ({TOKENS["AWS"]: 1}, None), ({}, f"x = '{TOKENS['AWS']}'")],
)  # fmt: skip
def test_a_token_given_in_python_is_refused_and_never_repeated(values, code):
    with pytest.raises(SpecError, match="looks like a token") as caught:
        check(values, code=code)
    assert TOKENS["AWS"] not in everything(caught.value)


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    "line",
    ["secrets: {HF_TOKEN: {0}}", "secrets: {HF_TOKEN: 'env:{0}!'}", "secrets: {0}!", "env: {WANDB_API_KEY: {0}}", "env: {db_password: {0}}",
     "env: {AWS_SECRET_ACCESS_KEY: {0}, GPUDEPLOY_RUN: {0}}"],
)  # fmt: skip
def test_a_secret_that_looks_like_nothing_is_told_by_its_place_and_never_repeated(line):
    password = "Correct-Horse-41"
    with pytest.raises(SpecError) as caught:
        read("run: x.py\n" + line.replace("{0}", password))
    assert password not in everything(caught.value)
    assert caught.value.problems[0].line == 3


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    "line",
    ["secrets: [HF_TOKEN]", "secrets: HF_TOKEN", "secrets: {HF_TOKEN: env:MY_TOKEN}", "secrets: {HF_TOKEN: file:~/.token}",
     "secrets: {HF_TOKEN: my-secret/token}", "env: {TOKENIZERS_PARALLELISM: 'false', MAX_TOKEN: 100}", "env: {HF_TOKEN: ''}"],
)  # fmt: skip
def test_references_and_harmless_values_are_taken(line):
    assert read(f"run: x.py\n{line}")


@pytest.mark.parametrize(
    "text",
    ["sk-learn-digits-classification", "sk-learn-v2", "hf_hub_download(repo_id)", "hf_xxxxxxxxxxxxxxxxxxxxxxxx", "task-scheduler-with-a-long-name-2024",
     "0123456789abcdef0123456789abcdef01234567", "meta-llama/Llama-3-70b-hf", "eyJ is how they begin", "-----BEGIN CERTIFICATE-----", "AKIAlowercase"],
)  # fmt: skip
def test_what_only_resembles_a_token_is_left_alone(text):
    assert secret_like(text) is None
    assert hide(text, Lines(text)) == (text, [])


@pytest.mark.parametrize("kind", TOKENS)
def test_every_kind_of_token_is_found_where_it_stands(kind):
    found = secret_like(f"token={TOKENS[kind]};")
    assert found
    assert (found.start(), found[0]) == (6, TOKENS[kind])


def test_a_hidden_token_leaves_every_other_place_as_it_was():
    text = f"a: {TOKENS['AWS']} b\nc: {TOKENS['JWT']}\nd"
    clean, problems = hide(text, Lines(text, 2))
    assert len(clean) == len(text)
    assert clean.split("\n")[2] == "d"
    assert [(wrong.line, wrong.column) for wrong in problems] == [(2, 4), (3, 4)]


@pytest.mark.fault(69)
def test_what_is_written_holds_references_only():
    (asked,) = read("run: x.py\nsecrets: {HF_TOKEN: env:MY_TOKEN}")
    assert header(asked.spec)["secrets"] == {"HF_TOKEN": "env:MY_TOKEN"}
    assert "HF_TOKEN: env:MY_TOKEN" in write(asked.spec)
    assert json.dumps(header(asked.spec))
