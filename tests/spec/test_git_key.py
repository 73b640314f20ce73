import pytest

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import read, write


def git_of(text):
    (asked,) = read(f"git: {text}\nrun: train.py\n")
    return asked.spec.git


@pytest.mark.parametrize(
    ("text", "url", "ref"),
    [
        ("https://github.com/org/repo@v1.0", "https://github.com/org/repo", "v1.0"),
        ("https://github.com/org/repo.git", "https://github.com/org/repo.git", None),
        ("https://host:8443/a/b@feature/x", "https://host:8443/a/b", "feature/x"),
        ("git@github.com:org/repo@main", "git@github.com:org/repo", "main"),
        ("git@github.com:org/repo.git", "git@github.com:org/repo.git", None),
        ("ssh://git@host:2222/org/repo@main", "ssh://git@host:2222/org/repo", "main"),
        ("file:///srv/repo@main", "file:///srv/repo", "main"),
        ("{url: https://host/repo, ref: 1.10}", "https://host/repo", "1.10"),
    ],
)
def test_an_address_and_its_ref_are_told_apart(text, url, ref):
    found = git_of(text)
    assert (found.url, found.ref) == (url, ref)


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    "text",
    [
        "--upload-pack=touch /tmp/x", "ext::sh -c touch% x", "ext://sh", "fd::3", "/srv/repo", "-u", "https:///repo",
        "ssh://-oProxyCommand=x/repo", "ssh://-o@host/repo", "-x@host:repo", "git@-host:repo", "git@host:-repo",
        "'https://host/repo@--upload-pack=x'", "'https://host/repo@-x'", "'{url: https://host/r, ref: -x}'",
        "{url: https://host/r, ref: 'a b'}", "{url: https://host/r, ref: 'a:b'}", "{url: https://host/r, ref: a..b}",
        "{url: https://host/r, path: ../x}", "{url: https://host/r, path: /etc}", "{url: https://host/r, path: a/../../b}",
    ],
)  # fmt: skip
def test_what_could_be_an_option_or_a_program_is_refused(text):
    with pytest.raises(SpecError):
        git_of(text)


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    "text", ["https://me:hunter2@host/repo@main", "https://hunter2@host/repo", "ssh://git:hunter2@host/repo",
             "https://host/repo?token=hunter2", "https://host/repo#hunter2"],
)  # fmt: skip
def test_a_password_in_the_address_is_refused_and_not_repeated(text):
    with pytest.raises(SpecError, match=r"must not hold a user or a password|without") as error:
        git_of(f"'{text}'")
    assert "hunter2" not in str(error.value)
    assert "credential helper" in str(error.value)


def test_it_is_written_back_as_it_was_read():
    (asked,) = read("git: https://host/repo@1.10\nrun: train.py\n")
    (again,) = read(write(asked.spec))
    assert again.spec.git == asked.spec.git


def test_a_path_is_tidied():
    assert git_of("{url: https://host/r, path: ./a//b/}").path == "a/b"
    assert git_of("{url: https://host/r, path: .}").path is None
