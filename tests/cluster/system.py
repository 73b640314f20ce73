"""What this machine can do, and the few commands that everything here is made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PACKAGES = {
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


class ClusterError(RuntimeError):
    """Something about the cluster did not work: what, and where to look."""


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def command(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: object) -> str:
    """Run `argv` to its end and return what it printed. Raises ClusterError with its errors."""
    words = [str(word) for word in argv]
    done = subprocess.run(  # type: ignore[call-overload]
        words, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}, **options
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(words[:6])} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return str(done.stdout)


def wait_for(what: str, check: Callable[[], object], seconds: float = 60, every: float = 0.1) -> None:
    """Poll `check` until it is true. Raises ClusterError with the last error after `seconds`."""
    deadline, reason = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except (OSError, ClusterError, ValueError, LookupError) as error:
            reason = f": {error}"
        time.sleep(every)
    raise ClusterError(f"{what}: not within {seconds:.0f} s{reason}. The logs are in {paths.logs()}")


def missing_packages() -> list[str]:
    """Debian packages whose programs are not here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return sorted(package for name, package in PACKAGES.items() if not shutil.which(name, path=path))


def why_not() -> str | None:
    """Say in one sentence why no cluster can be started here; None if one can."""
    return next(_obstacles(), None)


def _obstacles() -> Iterator[str]:
    if sys.platform != "linux":
        yield "the cluster needs Linux"
    if os.geteuid() != 0:
        yield "the cluster needs root"
    if not shutil.which("go") and not paths.program("kube").exists():
        yield "the cluster is built with Go, and there is no `go` here"
    missing = missing_packages()
    if missing and not shutil.which("apt-get"):
        yield f"the cluster needs Debian's packages {' '.join(missing)}, and there is no apt-get here"
    if not hierarchies() or not all(os.access(place, os.W_OK) for place in hierarchies()):
        yield "the cluster needs control groups that it may write (a container: --privileged)"
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode:
        yield "the cluster needs to mount and to make networks (a container: --privileged)"


def hierarchies() -> list[Path]:
    """Mount points of control groups: those of version 1, or the one of version 2."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]


def install_packages() -> None:
    """Install what is missing with apt-get."""
    missing = missing_packages()
    if missing:
        say(f"installing {' '.join(missing)}")
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        command(["apt-get", "update", "-qq"], env=env)
        command(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=env)
    left = missing_packages()
    if left:
        raise ClusterError(f"not on this machine after apt-get: {' '.join(left)}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long a step took."""
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.1f} s")
