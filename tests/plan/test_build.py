import os

import pytest

from jupyter_gpudeploy.backends.base import Capabilities
from jupyter_gpudeploy.errors import GpuDeployError, PlanError
from jupyter_gpudeploy.plan.build import build
from jupyter_gpudeploy.plan.types import Slot, fill
from jupyter_gpudeploy.spec.models import Spec

HERE = Capabilities("local", "this machine", gpus=0, cpus=2, memory=8 * 2**30, warm=True)
SLOTS = {Slot.PYTHON: "python", Slot.CODE: "/code", Slot.OUTPUT: "/out", Slot.HOST: "127.0.0.1", Slot.PORT: "8000"}


def plan(tmp_path, can=HERE, **header):
    return build(Spec.model_validate(header), can, base=tmp_path)


def argv(tmp_path, **header):
    return fill(plan(tmp_path, **header).tasks[0].argv, {**SLOTS, Slot.SOURCES: str(tmp_path)})


@pytest.fixture
def train(tmp_path):
    file = tmp_path / "train.py"
    file.write_text("print('loss=1')")
    return file


class TestWhatRuns:
    def test_a_script(self, tmp_path, train):
        assert argv(tmp_path, run="train.py", args="--lr {lr} --epochs 20", parameters={"lr": 0.1}) == [
            "python", str(train), "--lr", "0.1", "--epochs", "20",
        ]  # fmt: skip

    def test_an_option_is_spelled_as_the_script_spells_it(self, tmp_path, train):
        train.write_text("""parser.add_argument('--batch-size', type=int)
parser.add_argument("--max_steps")
parser.add_argument("--use-amp/--no-use-amp")  # and --max-steps is only spoken of
""")
        asked = {"run": "train.py", "parameters": {"batch_size": 8, "max_steps": 5, "use_amp": False, "warm_up": 1}}
        assert argv(tmp_path, **asked)[2:] == [
            "--batch-size", "8", "--max_steps", "5", "--no-use-amp", "--warm_up", "1",
        ]  # fmt: skip
        made = plan(tmp_path, **asked)
        assert made.tasks[0].parameters["batch_size"] == 8
        note = next(note for note in made.notes if note.field == "parameters")
        assert (note.level, note.message) == (
            "info",
            "train.py is given batch_size as --batch-size, use_amp as --use-amp, as it spells that",
        )
        assert argv(tmp_path, **asked, args="-b {batch_size}")[2:4] == ["-b", "8"]

    def test_a_folder_with_an_entry_point_runs_in_the_folder(self, tmp_path):
        (tmp_path / "suite").mkdir()
        (tmp_path / "suite" / "run_eval.py").write_text("")
        made = plan(tmp_path, run="suite", entry_point="run_eval.py")
        assert made.working_dir == str(tmp_path / "suite")
        slots = {**SLOTS, Slot.SOURCES: str(tmp_path)}
        assert fill(made.tasks[0].argv, slots) == ["python", str(tmp_path / "suite" / "run_eval.py")]

    def test_a_folder_without_an_entry_point_lists_its_scripts(self, tmp_path):
        (tmp_path / "suite").mkdir()
        (tmp_path / "suite" / "run_eval.py").write_text("")
        with pytest.raises(PlanError) as error:
            plan(tmp_path, run="suite/")
        assert "run_eval.py" in error.value.hint

    def test_a_notebook(self, tmp_path):
        (tmp_path / "a.ipynb").write_text('{"cells": []}')
        words = argv(tmp_path, run="a.ipynb")
        assert words == [
            "python",
            "-m",
            "jupyter_gpudeploy.programs.notebook",
            str(tmp_path / "a.ipynb"),
            "/out/a.ipynb",
        ]

    def test_a_command(self, tmp_path):
        assert argv(tmp_path, run="echo 'two words' three") == ["echo", "two words", "three"]
        assert argv(tmp_path, run=["echo", "$HOME"]) == ["echo", "$HOME"]

    def test_python_means_the_kernels_python(self, tmp_path):
        assert argv(tmp_path, run="python -m timeit") == ["python", "-m", "timeit"]
        assert plan(tmp_path, run="python -m timeit").tasks[0].argv[0] == (Slot.PYTHON,)

    def test_the_code_of_the_cell(self, tmp_path):
        made = plan(tmp_path, code="lr = 1\nprint(lr)\n", parameters={"lr": [1, 2]})
        assert made.kind == "sweep"
        assert [task.parameters for task in made.tasks] == [{"lr": 1}, {"lr": 2}]
        assert "lr = lr" in made.files["cell.py"]

    def test_manual_starts_nothing(self, tmp_path):
        assert plan(tmp_path, mode="manual").tasks == ()

    @pytest.mark.parametrize("name", ["vllm", "sglang", "tgi", "tensorrt_llm", "triton", "llamacpp"])
    def test_every_model_server_has_a_command_with_its_model_and_port(self, tmp_path, name):
        words = argv(tmp_path, serve=name, model="some/model")
        assert any("some/model" in text for text in words)
        assert any("8000" in text for text in words)

    def test_vllm_splits_over_its_gpus_unless_told(self, tmp_path):
        assert "--tensor-parallel-size" in argv(tmp_path, serve="vllm", model="m", gpus=4)
        assert argv(tmp_path, serve="vllm", model="m", gpus=4, args="-tp 2").count("-tp") == 1
        assert "--tensor-parallel-size" not in argv(tmp_path, serve="vllm", model="m", gpus=4, args="-tp 2")

    def test_an_unknown_server_names_the_known_ones(self, tmp_path):
        with pytest.raises(GpuDeployError) as error:
            plan(tmp_path, serve="vlm", model="m")
        assert "did you mean 'vllm'?" in error.value.hint

    def test_a_command_server_must_be_told_its_port(self, tmp_path):
        with pytest.raises(PlanError, match="port"):
            plan(tmp_path, serve="command", run="python -m http.server")


@pytest.mark.fault(59)
class TestSources:
    @pytest.mark.parametrize("path", ["../train.py", "/etc/passwd", "~/train.py", "a/../../train.py"])
    def test_nothing_outside_the_notebooks_folder_runs(self, tmp_path, path):
        (tmp_path / "nb").mkdir()
        (tmp_path / "train.py").write_text("")
        with pytest.raises(PlanError, match="outside the notebook's folder") as error:
            build(Spec(run=path, entry_point="x.py"), HERE, base=tmp_path / "nb")
        assert "allow_outside" in error.value.hint

    def test_it_may_when_the_cell_says_so(self, tmp_path):
        (tmp_path / "nb").mkdir()
        (tmp_path / "train.py").write_text("")
        made = build(Spec(run="../train.py", allow_outside=True), HERE, base=tmp_path / "nb")
        assert made.sources[0].path == str(tmp_path / "train.py")

    @pytest.mark.fault(60)
    def test_a_link_that_leads_out_is_followed_before_it_is_judged(self, tmp_path):
        (tmp_path / "nb").mkdir()
        (tmp_path / "secret.py").write_text("")
        (tmp_path / "nb" / "train.py").symlink_to(tmp_path / "secret.py")
        with pytest.raises(PlanError, match="outside"):
            build(Spec(run="train.py"), HERE, base=tmp_path / "nb")

    @pytest.mark.fault(60)
    def test_links_out_of_a_folder_are_listed_and_loops_end(self, tmp_path):
        suite = tmp_path / "suite"
        suite.mkdir()
        (suite / "main.py").write_text("")
        (suite / "loop").symlink_to(suite)
        (suite / "key").symlink_to("/etc/passwd")
        notes = plan(tmp_path, run="suite", entry_point="main.py").notes
        assert [note.message for note in notes if note.field == "run"] == ["links lead out of the folder: key"]

    def test_a_fifo_is_no_source(self, tmp_path):
        os.mkfifo(tmp_path / "train.py")
        with pytest.raises(PlanError, match="neither a file nor a folder"):
            plan(tmp_path, run="train.py")

    def test_a_missing_script_names_the_nearest(self, tmp_path, train):
        with pytest.raises(PlanError) as error:
            plan(tmp_path, run="trian.py")
        assert "did you mean 'train.py'?" in error.value.hint


class TestFingerprint:
    def test_the_same_cell_has_the_same_and_any_change_another(self, tmp_path, train):
        first = plan(tmp_path, run="train.py", args="--lr 1").fingerprint
        assert plan(tmp_path, run="train.py", args="--lr 1").fingerprint == first
        assert plan(tmp_path, run="train.py", args="--lr 2").fingerprint != first
        train.write_text("print('loss=2')")
        assert plan(tmp_path, run="train.py", args="--lr 1").fingerprint != first

    def test_running_a_notebook_does_not_change_it(self, tmp_path):
        file = tmp_path / "a.ipynb"
        cell = '{"cells": [{"cell_type": "code", "source": "1", "outputs": [%s]}]}'
        file.write_text(cell % "")
        first = plan(tmp_path, run="a.ipynb").fingerprint
        file.write_text(cell % '{"text": "1"}')
        assert plan(tmp_path, run="a.ipynb").fingerprint == first

    def test_a_plan_is_a_function_of_its_arguments(self, tmp_path, train):
        assert plan(tmp_path, run="train.py") == plan(tmp_path, run="train.py")


class TestWhatCannotBeDoneHere:
    def notes(self, tmp_path, **header):
        return {note.field: note for note in plan(tmp_path, **{"run": "echo hi", **header}).notes}

    def test_gpus_nodes_and_a_route_each_have_one_line_and_a_way_out(self, tmp_path):
        notes = self.notes(tmp_path, serve="command", run="serve {port}", gpus=8, nodes=2, route=True)
        assert [notes[field].level for field in ("gpus", "nodes", "route")] == ["error", "error", "warning"]
        assert all(note.hint and "\n" not in note.message for note in notes.values())

    def test_zero_gpus_always_work(self, tmp_path):
        assert not plan(tmp_path, run="echo hi", gpus=0).errors

    def test_what_could_not_be_found_out_is_not_refused(self, tmp_path):
        unknown = Capabilities("other", "the cluster", nodes=None, replicas=None)
        assert not plan(tmp_path, unknown, serve="vllm", model="m", gpus=8, nodes=2, replicas=3).errors

    def test_more_memory_than_there_is_is_a_warning(self, tmp_path):
        assert self.notes(tmp_path, memory="256GB")["memory"].level == "warning"

    def test_a_missing_module_says_how_to_get_it(self, tmp_path):
        can = HERE._replace(has_module=lambda name: name != "fastapi")
        (error,) = plan(tmp_path, can, serve="fastapi", code="app = 1").errors
        assert "pip install fastapi" in error.hint

    def test_a_missing_program_is_said_before_anything_starts(self, tmp_path):
        can = HERE._replace(has_program=lambda name: name != "vllm")
        (error,) = plan(tmp_path, can, serve="vllm", model="m").errors
        assert "'vllm'" in error.message

    @pytest.mark.fault(51)
    def test_a_million_runs_are_counted_and_refused(self, tmp_path):
        axes = {"a": list(range(10)), "b": list(range(100)), "c": list(range(1000))}
        with pytest.raises(PlanError, match="1,000,000 runs = 10 x 100 x 1000") as error:
            plan(tmp_path, run="echo hi", parameters=axes)
        assert "max_runs" in error.value.hint

    def test_trials_may_not_share_a_metric_file(self, tmp_path):
        made = plan(tmp_path, run="echo hi", parameters={"a": [1, 2]}, metric_files=["m.csv"])
        assert made.errors[0].field == "metric_files"
        assert not plan(tmp_path, run="echo hi", parameters={"a": [1, 2]}, metric_files=["{output}/m.csv"]).errors

    def test_warm_is_for_scripts(self, tmp_path):
        with pytest.raises(PlanError, match="warm"):
            plan(tmp_path, run="echo hi", warm=True)
