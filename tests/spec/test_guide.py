from pathlib import Path

import pytest

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import GUIDE_SECTIONS, read, write
from jupyter_gpudeploy.spec.guide_config import SECTIONS
from jupyter_gpudeploy.spec.models import Spec

GUIDE = Path(__file__).parent / "guide"
LLAMA = "meta-llama/Llama-3-70b-hf"


def guide(name):
    return next(GUIDE.glob(f"{name}.*")).read_text("utf-8")


def specs(name):
    return [asked.spec for asked in read(guide(name))]


def remarks(text):
    return [remark for asked in read(text) for remark in asked.remarks]


def problem(text):
    with pytest.raises(SpecError) as caught:
        read(text)
    (only,) = caught.value.problems
    return only


# --- the two config.yaml


def test_the_inference_config_is_a_vllm_server():
    assert specs("inference_config") == [
        Spec(
            name="llama-inference",
            mode="auto_start",
            serve="vllm",
            model=LLAMA,
            args=["--tensor-parallel-size", "8"],
            gpus=8,
            port=8000,
            health="/health",
            route=True,
            cluster="barcelona",
        )
    ]


def test_what_the_inference_config_says_otherwise_is_remarked():
    said = {remark.field: str(remark) for remark in remarks(guide("inference_config"))}
    assert list(said) == [
        "application.source.path", "application.runtime.working_dir", "inference.enabled", "inference.endpoint",
        "monitoring.metrics", "inference.metrics",
    ]  # fmt: skip
    assert f"serve: vllm, model: {LLAMA}" in said["application.source.path"]
    assert "/workspace/llama-inference is a folder of the guide's pods" in said["application.runtime.working_dir"]
    assert "requests_per_second, latency_p99, throughput_tokens_per_sec" in said["monitoring.metrics"]


def test_the_experiment_config_is_a_sweep_of_a_folder():
    assert specs("experiment_config") == [
        Spec(
            name="hyperparam-sweep",
            mode="job",
            run="./experiments/",
            entry_point="sweep.py",
            args="--config sweep_config.yaml",
            method="grid",
            parameters={"learning_rate": [0.0001, 0.001, 0.01], "batch_size": [16, 32, 64], "epochs": [10, 20, 50]},
            parallelism=4,
            nodes=2,
            cluster="nerc-production",
            tracking={"backend": "wandb", "project": "gpt-experiments", "entity": "my-team"},
        )
    ]


# --- the use cases


def test_a_vllm_server_from_a_command():
    assert specs("vllm") == [
        Spec(
            name="llama-inference",
            mode="auto_start",
            serve="vllm",
            model=LLAMA,
            args=["--tensor-parallel-size", "8"],
            requirements="requirements-inference.txt",
            gpus=8,
            memory="256G",
        )
    ]


def test_a_batch_job_from_a_script():
    arguments = "--input /datasets/unlabeled --output /workspace/predictions --batch-size 32"
    assert specs("batch") == [
        Spec(name="batch-inference", mode="job", run="./batch_predict.py", args=arguments, gpus=4)
    ]
    assert any("/datasets/unlabeled, /workspace/predictions" in str(remark) for remark in remarks(guide("batch")))


def test_several_models_are_several_runs():
    assert specs("multi_model") == [
        Spec(name="gpt2-inference", serve="vllm", model="gpt2", gpus=1),
        Spec(name="bert-classifier", serve="vllm", model="bert-base-uncased", args=["--runner", "pooling"], gpus=1),
        Spec(name="llama-inference", serve="vllm", model=LLAMA, gpus=8),
    ]
    assert any("bert-base-uncased is an encoder" in str(remark) for remark in remarks(guide("multi_model")))


def test_a_loop_over_a_learning_rate_is_a_sweep():
    assert specs("lr_sweep") == [
        Spec(
            name="lr-sweep",
            mode="job",
            run="./train.py",
            args="--lr {lr} --epochs 20",
            parameters={"lr": [0.0001, 0.001, 0.01, 0.1]},
        )
    ]


def test_an_evaluation_is_a_job_of_a_folder():
    assert specs("model_eval") == [
        Spec(
            name="model-eval",
            mode="job",
            run="./evaluation_suite/",
            entry_point="run_eval.py",
            args="--model /models/my-model --benchmark all",
        )
    ]


def test_edits_of_flags_are_an_ablation_of_one_change_each():
    switch = {
        name: {"values": [True, False], "flags": [f"--use-{name}", f"--no-{name}"]}
        for name in ("attention", "normalization", "residual")
    }
    assert specs("ablation") == [
        Spec(name="ablation-study", mode="job", run="./train.py", method="ablation", parameters=switch)
    ]
    assert any("each trial changes one" in remark.message for remark in remarks(guide("ablation")))


def test_an_interactive_analysis_is_an_environment_that_stays_up():
    assert specs("data_analysis") == [Spec(name="data-analysis", mode="manual", run="./analyze_dataset.py", gpus=1)]


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        (
            "ab_testing",
            [Spec(name="model-v1", mode="manual", route=True), Spec(name="model-v2", mode="manual", route=True)],
        ),
        ("blue_green", [Spec(name="model-green", mode="manual")]),
    ],
)
def test_a_run_of_which_nothing_says_what_runs_stays_up_and_says_so(name, runs):
    assert specs(name) == runs
    said = [remark for remark in remarks(guide(name)) if remark.message.startswith("nothing says what")]
    assert len(said) == len(runs)
    assert all(remark.level == "warning" and "Command:" in remark.hint for remark in said)


@pytest.mark.parametrize("name", [path.name.split(".")[0] for path in sorted(GUIDE.iterdir())])
def test_what_was_understood_can_be_written_as_a_cell_and_read_again(name):
    for asked in read(guide(name)):
        (again,) = read(write(asked.spec))
        assert again.spec == asked.spec
        assert again.remarks == ()


@pytest.mark.parametrize("name", [path.name.split(".")[0] for path in sorted(GUIDE.iterdir())])
def test_the_markdown_around_a_snippet_does_no_harm(name):
    kind = "yaml" if "config" in name else "bash"
    assert [one.spec for one in read(f"```{kind}\n{guide(name)}```\n")] == specs(name)


@pytest.mark.parametrize("name", ["vllm", "batch", "lr_sweep", "model_eval", "ablation", "data_analysis", "blue_green"])
def test_the_shell_lines_are_named_and_not_carried_out(name):
    (said,) = [remark for remark in remarks(guide(name)) if "shell lines" in remark.message]
    assert said.level == "info"
    assert "./scripts/" in said.message


# --- variations of the config


def config(**application):
    lines = ["application:", *(f"  {key}: {value}" for key, value in application.items())]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        ({"type": "single_file", "source": "{path: train.py}", "execution": "{mode: job}"}, {"run": "train.py", "mode": "job"}),
        ({"type": "notebook", "source": "{path: a.ipynb}"}, {"run": "a.ipynb"}),
        ({"type": "custom_command", "source": "{path: make train}", "execution": "{mode: job}"}, {"run": "make train", "mode": "job"}),
        ({"type": "custom_command", "source": "{path: python app.py --port 9000}", "execution": "{mode: auto-start}"},
         {"serve": "command", "run": "python app.py --port {port}", "port": 9000, "mode": "auto_start"}),
        ({"source": "{path: vllm serve Qwen/Qwen3-0.6B --port=9000 --host 0.0.0.0 --dtype half}"},
         {"run": "vllm serve Qwen/Qwen3-0.6B --port=9000 --host 0.0.0.0 --dtype half"}),
        ({"source": "{path: vllm serve Qwen/Qwen3-0.6B --port=9000 --host 0.0.0.0 --dtype half}", "execution": "{mode: auto_start}"},
         {"serve": "vllm", "model": "Qwen/Qwen3-0.6B", "port": 9000, "args": ["--dtype", "half"], "mode": "auto_start"}),
        ({"source": "{path: train.py}", "execution": "{mode: manual}"}, {"run": "train.py", "mode": "manual"}),
        ({"enabled": "false", "source": "{path: train.py}"}, {"mode": "manual"}),
        ({"source": "{path: t.py}", "requirements": "[numpy]", "runtime": "{working_dir: sub}"}, {"run": "t.py", "requirements": ["numpy"], "working_dir": "sub"}),
        ({"name": "1e-3", "source": "{path: t.py}"}, {"run": "t.py", "name": "1e-3"}),
    ],
)  # fmt: skip
def test_applications_of_every_type(application, expected):
    (asked,) = read(config(**application))
    assert asked.spec == Spec(**expected)


def test_our_own_keys_may_stand_beside_the_sections_and_python_below():
    (asked,) = read("resources: {gpus: 1, memory: 16GB}\nname: x\nparameters: {lr: [1, 2]}\n---\nprint(lr)\n")
    assert asked.spec == Spec(name="x", gpus=1, memory="16G", parameters={"lr": [1, 2]}, code="print(lr)")


def test_tracking_is_taken_from_either_section_unless_switched_off():
    on = "experiment_tracking: {enabled: true, backend: mlflow, project: p, tags: [a, 1]}\nrun: t.py"
    assert read(on)[0].spec.tracking.tags == ["a", "1"]
    assert read(on.replace("true", "false"))[0].spec.tracking is None


def test_inference_that_is_switched_off_leaves_no_port():
    text = "inference: {enabled: false, port: 9000, health_check: /h}\n" + config(source="{path: t.py}")
    assert read(text)[0].spec == Spec(run="t.py")


def test_a_number_of_machines_that_is_missing_or_contradicted_is_remarked():
    assert "not how many" in str(remarks("deployment: {mode: multi-node}\nrun: t.py")[0])
    (asked,) = read("deployment: {mode: single-node, num_nodes: 2}\nrun: t.py")
    assert asked.spec.nodes == 2
    assert "says otherwise" in str(asked.remarks[0])


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("deployment:\n  clutser: x\nrun: t.py", 3, 3, "there is no key 'clutser' in deployment:", "did you mean 'cluster'?"),
        ("aplication:\n  name: x\nresources: {gpus: 1}", 2, 1, "there is no key 'aplication'", "did you mean 'application'?"),
        ("application:\n  source: {paht: t.py}", 3, 12, "there is no key 'paht' in application.source:", "did you mean 'path'?"),
        ("resources:\n  gpus: eight\nrun: t.py", 3, 9, "resources.gpus must be a whole number, not 'eight'", ""),
        ("resources: 8\nrun: t.py", 2, 12, "resources must be lines of `key: value`, not 8", "keys: gpus, memory, cpu, cpus"),
        ("resources: {gpus: 1}\ngpus: 2\nrun: t.py", 3, 7, "gpus says again what resources.gpus says on line 2", "keep one of them"),
        ("application: {type: single_flie, source: {path: t.py}}", 2, 21, "application.type must be one of custom_command, single_file, directory, notebook, not 'single_flie'", "did you mean 'single_file'?"),
        ("application: {execution: {mode: jbo}, source: {path: t.py}}", 2, 33, "application.execution.mode must be one of auto_start, job, manual, not 'jbo'", "did you mean 'job'?"),
        ("inference: {enabled: true, protocol: grpc}\nrun: t.py", 2, 38, "inference.protocol must be http, not 'grpc'", "the server speaks http"),
        ("inference: {port: 70000}\nserve: vllm\nmodel: m", 2, 19, "inference.port must be 65535 or less, not 70000", ""),
        ("experiment:\n  sweep:\n    method: gird\n    parameters: {a: [1]}\nrun: t.py", 4, 13, "experiment.sweep.method must be one of grid, random, ablation, bayes, not 'gird'", "did you mean 'grid'?"),
        ("experiment:\n  sweep:\n    parameters:\n      lr: []\nrun: t.py", 5, 11, "experiment.sweep.parameters.lr is empty: there is nothing to try", ""),
        ("experiment_tracking: {project: p}\nrun: t.py", 2, 22, "experiment_tracking needs backend:", ""),
    ],
)  # fmt: skip
def test_a_mistake_in_the_guides_config_is_told_in_its_own_words(text, line, column, message, hint):
    wrong = problem(text)
    assert wrong.message == message
    assert (wrong.line, wrong.column) == (line, column)
    assert wrong.hint.startswith(hint)


def test_the_sections_that_tell_a_config_are_all_of_them():
    assert set(SECTIONS) == GUIDE_SECTIONS


# --- variations of the transcript


def wizard(*lines):
    return "\n".join(["make wizard PROJECT=demo", *(f"# - {line}" for line in lines)])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Model: mistralai/Mistral-7B-v0.1", "GPUs: 2"], {"serve": "vllm", "model": "mistralai/Mistral-7B-v0.1", "gpus": 2}),
        (["Source: a.py", "Resources: 2 GPUs, 16 CPUs, 512 MB RAM, 3 nodes"], {"run": "a.py", "gpus": 2, "cpu": 16, "memory": "512M", "nodes": 3}),
        (["Source: a.py", "Resources: 1x A100 GPU"], {"run": "a.py", "gpus": 1}),
        (["Command: uvicorn app:app --port 9000", "Mode: Auto-start"], {"serve": "command", "run": "uvicorn app:app --port {port}", "port": 9000, "mode": "auto_start"}),
        (["Command: make test", "Mode: job"], {"run": "make test", "mode": "job"}),
        (["Type: Jupyter notebook or Python script", "Source: a.ipynb", "Mode: Job <- once"], {"run": "a.ipynb", "mode": "job"}),
        (["Source: a.py", "Route: no", "Memory: 16GB", "Cluster: lab"], {"run": "a.py", "route": False, "memory": "16G", "cluster": "lab"}),
    ],
)  # fmt: skip
def test_the_wizards_lines_in_other_words(lines, expected):
    (asked,) = read(wizard(*lines))
    assert asked.spec == Spec(name="demo", **expected)


def test_a_prompt_indentation_and_quotes_are_tolerated():
    (asked,) = read('  $ make wizard PROJECT="demo"\n  #  -  Source :  a.py \n')
    assert asked.spec == Spec(name="demo", run="a.py")


def test_edits_that_add_a_flag_or_several_loops_are_understood():
    text = wizard("Source: t.py", "Arguments: --epochs 20") + (
        "\nfor lr in 0.1 0.01; do\n  for bs in 16 32\n  do\n"
        "    sed -i \"s|--lr=[0-9.]*|--lr=$lr|\" config.yaml\n    sed -i -e 's/--bs [0-9]*/--bs ${bs}/g' config.yaml\n  done\ndone"
    )
    spec = read(text)[0].spec
    assert spec.args == "--epochs 20 --lr={lr} --bs {bs}"
    assert {name: axis.values for name, axis in spec.parameters.items()} == {"lr": [0.1, 0.01], "bs": [16, 32]}


@pytest.mark.parametrize(
    ("lines", "field", "message"),
    [
        (["Source: a.py", "Favourite colour: blue"], "Favourite colour", "not understood"),
        (["Source: a.py", "Resources: 1 GPU and a coffee"], "Resources", "coffee"),
        (["Source: a.py", "just a thought"], "Name", "just a thought"),
    ],
)
def test_what_is_not_understood_is_remarked(lines, field, message):
    found = remarks(wizard(*lines))
    assert any(message in remark.message for remark in found)
    assert {remark.field for remark in found} <= {field, "PROJECT"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ('for lr in ${RATES}; do\nsed -i "s/--lr 1/--lr $lr/" c', "the values of the loop are not in the cell"),
        ("sed -i 's/adam/sgd/' config.yaml", "the edit of 'adam' is not understood"),
    ],
)  # fmt: skip
def test_an_edit_that_is_not_understood_is_remarked(edit, message):
    found = remarks(wizard("Source: a.py", "Arguments: --lr 1") + "\n" + edit)
    assert any(remark.message == message and remark.level == "warning" for remark in found)


@pytest.mark.parametrize(
    ("line", "column", "message", "hint"),
    [
        ("Sourec: a.py", 13, "the wizard has no line 'Sourec'", "did you mean 'Source'?"),
        ("Mode: Jobs", 11, "Mode must be one of Auto-start, Job, Manual, not 'Jobs'", "did you mean 'Job'?"),
        ("GPUs: many", 11, "GPUs must be a whole number, not 'many'", ""),
        ("Memory: lots", 13, "Memory: 'lots' is no quantity: write a number and a unit, like 16Gi", ""),
    ],
)
def test_a_mistake_in_a_transcript_is_told_with_its_place(line, column, message, hint):
    wrong = problem("# a note\n" + wizard("Source: a.py", line))
    assert wrong.message == message
    assert (wrong.line, wrong.column) == (5, column)
    assert wrong.hint.startswith(hint)


def test_a_project_without_a_plain_name_is_told():
    assert problem("make wizard PROJECT=$NAME").message == "PROJECT= names no project"


def test_a_name_on_the_magic_line_goes_to_a_single_run_only():
    assert read(guide("lr_sweep"), name="mine")[0].spec.name == "mine"
    several = read(guide("ab_testing"), name="mine")
    assert [asked.spec.name for asked in several] == ["model-v1", "model-v2"]
    assert all("keeps its own name" in str(asked.remarks) for asked in several)


def test_a_word_of_the_guide_in_a_program_makes_no_transcript():
    (asked,) = read('name: x\n---\ntext = """\nmake wizard PROJECT=x\n"""\n')
    assert asked.spec.code.startswith("text =")
