import json
import socket
import threading

import pytest
from repositories import commit, git, repository, served

from jupyter_gpudeploy.checkout import checkout
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.spec.git import GitSpec


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def repo(tmp_path):
    return repository(tmp_path / "served" / "repo.git", train__py="print(1)", lib___a__py="A = 1")


def asked(repo, ref=None, path=None):
    return GitSpec(url=f"file://{repo}", ref=ref, path=path)


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


class TestWhichCommit:
    def test_without_a_ref_it_is_the_newest_of_the_default_branch(self, repo):
        found = checkout(asked(repo))
        assert (found.git.commit, found.git.ref) == (git(repo, "rev-parse", "HEAD"), "main")
        assert files(found.folder) == ["lib/a.py", "train.py"]

    def test_a_branch_a_tag_and_an_annotated_tag_become_the_commit(self, repo):
        first = git(repo, "rev-parse", "HEAD")
        git(repo, "tag", "v1")
        git(repo, "tag", "-a", "-m", "release", "v2")
        git(repo, "checkout", "-q", "-b", "feature/x")
        second = commit(repo, train__py="print(2)")
        assert [checkout(asked(repo, ref)).git.commit for ref in ("v1", "v2", "main", "feature/x")] == [
            first, first, first, second,
        ]  # fmt: skip
        assert (checkout(asked(repo, "feature/x")).folder / "train.py").read_text() == "print(2)"
        assert checkout(asked(repo, "refs/heads/feature/x")).git.commit == second

    def test_a_branch_that_moved_is_another_commit_and_the_old_one_is_still_there(self, repo):
        before = checkout(asked(repo, "main"))
        commit(repo, train__py="print(2)")
        after = checkout(asked(repo, "main"))
        assert before.git.commit != after.git.commit
        assert [(one.folder / "train.py").read_text() for one in (before, after)] == ["print(1)", "print(2)"]

    def test_a_full_hash_is_taken_as_it_is_though_no_branch_has_it(self, repo):
        lost = commit(repo, train__py="print('lost')")
        git(repo, "reset", "-q", "--hard", "HEAD~1")
        found = checkout(asked(repo, lost))
        assert (found.git.commit, found.git.ref) == (lost, "")
        assert (found.folder / "train.py").read_text() == "print('lost')"

    def test_what_is_a_branch_and_a_tag_is_asked_about(self, repo):
        git(repo, "tag", "twice")
        commit(repo)
        git(repo, "branch", "twice")
        with pytest.raises(PlanError, match="a branch and a tag") as error:
            checkout(asked(repo, "twice"))
        assert error.value.hint == "ref: refs/tags/twice or ref: refs/heads/twice"

    def test_a_ref_that_is_not_there_is_told_with_the_way_out(self, repo):
        with pytest.raises(PlanError, match="no branch or tag 'mian'"):
            checkout(asked(repo, "mian"))
        with pytest.raises(PlanError, match="no branch or tag") as error:
            checkout(asked(repo, git(repo, "rev-parse", "HEAD")[:10]))
        assert error.value.hint == "a commit is named by its full hash"
        with pytest.raises(PlanError, match="cannot be fetched"):
            checkout(asked(repo, "f" * 40))

    def test_an_empty_repository_has_nothing(self, tmp_path):
        (tmp_path / "empty").mkdir()
        git(tmp_path / "empty", "init", "-q")
        with pytest.raises(PlanError, match="has no commit"):
            checkout(asked(tmp_path / "empty"))


class TestWhatComes:
    def test_a_folder_alone(self, repo):
        found = checkout(asked(repo, path="lib"))
        assert (found.git.path, files(found.folder)) == ("lib", ["a.py"])
        with pytest.raises(PlanError, match="has no folder 'lub'") as error:
            checkout(asked(repo, path="lub"))
        assert "lib" in error.value.hint

    def test_a_link_out_of_the_repository_is_no_folder_of_it(self, repo, tmp_path):
        (tmp_path / "outside").mkdir()
        (repo / "out").symlink_to(tmp_path / "outside")
        commit(repo)
        with pytest.raises(PlanError, match="has no folder 'out'"):
            checkout(asked(repo, path="out"))

    def test_neither_the_history_nor_anything_of_git_is_kept(self, repo, home):
        for number in range(5):
            commit(repo, train__py=f"print({number})")
        checkout(asked(repo))
        assert not [path for path in home.rglob("*") if path.name in (".git", "objects")]

    def test_submodules_and_pointers_of_lfs_are_named(self, repo, tmp_path):
        other = repository(tmp_path / "other", x__py="")
        git(repo, "submodule", "add", "-q", f"file://{other}", "vendor/other")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345678\n"
        commit(repo, model__bin=pointer, __gitattributes="*.bin filter=lfs diff=lfs merge=lfs -text\n")
        found = checkout(asked(repo))
        warned = [note.message for note in found.notes if note.level == "warning"]
        assert warned == [
            "submodules do not come along: vendor/other",
            "files of Git LFS do not come along, only their pointers: model.bin",
        ]
        assert (found.folder / "model.bin").read_text() == pointer

    def test_hooks_and_filters_of_nobody_run(self, repo, tmp_path, monkeypatch):
        trap = tmp_path / "trap"
        templates = tmp_path / "templates" / "hooks"
        templates.mkdir(parents=True)
        (templates / "post-checkout").write_text(f"#!/bin/sh\ntouch {trap}\n")
        (templates / "post-checkout").chmod(0o755)
        monkeypatch.setenv("GIT_TEMPLATE_DIR", str(templates.parent))
        checkout(asked(repo))
        assert not trap.exists()


class TestWhenItIsAsked:
    def test_a_hash_that_was_fetched_before_needs_no_network(self, repo):
        first = git(repo, "rev-parse", "HEAD")
        checkout(asked(repo, first))
        repo.rename(repo.with_name("moved"))
        assert files(checkout(asked(repo, first)).folder) == ["lib/a.py", "train.py"]
        with pytest.raises(PlanError, match="cannot be fetched"):
            checkout(asked(repo, "main"))

    def test_a_server_that_is_not_there_is_told(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{unused.getsockname()[1]}/repo.git"
            with pytest.raises(PlanError, match="cannot be fetched") as error:
                checkout(GitSpec(url=address))
        assert error.value.hint == "a full commit hash that was fetched before needs no network"

    def test_one_commit_comes_by_http(self, repo):
        first = git(repo, "rev-parse", "HEAD")
        commit(repo, train__py="print(2)")
        with served(repo.parent) as (address, requests):
            found = checkout(GitSpec(url=f"{address}/repo.git", ref="main"))
            assert (found.folder / "train.py").read_text() == "print(2)"
            asked_before = len(requests)
            checkout(GitSpec(url=f"{address}/repo.git", ref=found.git.commit))
            assert len(requests) == asked_before, "it is here already"
            older = checkout(GitSpec(url=f"{address}/repo.git", ref=first))
        assert (older.folder / "train.py").read_text() == "print(1)"
        assert any("not encrypted" in note.message for note in found.notes)

    def test_processes_that_ask_at_once_get_the_same(self, repo, home):
        found = []
        threads = [threading.Thread(target=lambda: found.append(checkout(asked(repo)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({one.folder for one in found}) == 1
        assert len(list((home / "git").iterdir())) == 1

    def test_what_a_fetch_that_failed_left_is_gone(self, repo, home):
        with pytest.raises(PlanError):
            checkout(asked(repo, "f" * 40))
        assert list((home / "git").iterdir()) == []

    def test_words_of_a_password_that_git_repeats_are_not_shown(self, repo, tmp_path, monkeypatch):
        config = tmp_path / "gitconfig"
        config.write_text('[url "http://me:hunter2@127.0.0.1:1/"]\n\tinsteadOf = http://127.0.0.1:1/\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        with pytest.raises(PlanError) as error:
            checkout(GitSpec(url="http://127.0.0.1:1/repo.git"))
        assert "hunter2" not in str(error.value)


def test_facts_are_plain(repo, home):
    checkout(asked(repo))
    (facts,) = (home / "git").glob("*/facts.json")
    assert json.loads(facts.read_text()) == {"submodules": [], "pointers": []}
