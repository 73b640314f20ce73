"""python -m tests.cluster up | down | status | restart PART | ..."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from . import build, controllers, crds, identities, images, paths, simulation, system
from .cluster import Cluster
from .parts import PARTS
from .system import ClusterError


def main() -> int:
    """Do what the words say; 1 with a sentence when it cannot be done."""
    arguments, rest = _parser().parse_known_args()
    if rest and arguments.do is not _restart:
        _parser().error(f"unknown: {' '.join(rest)}")
    arguments.flags = [word for word in rest if word != "--"]
    try:
        return int(arguments.do(arguments) or 0)
    except ClusterError as error:
        system.say(str(error))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: object, told: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(do=do)
        return command

    add("up", _up, "build what is missing, start what is not running")
    add("prepare", lambda _: Cluster().prepare(), "install, build and make all that up needs, and start nothing")
    add("down", _down, "end everything and delete what it wrote")
    add("status", _status, "say how each part is; 1 unless all work")
    restart = add("restart", _restart, "restart a part; further words are flags for it")
    for name in ("kill", "stop", "start", "freeze", "thaw"):
        add(name, _signal, f"{name} a part").add_argument("part", choices=[*PARTS])
        commands.choices[name].set_defaults(verb=name)
    restart.add_argument("part", choices=[*PARTS])
    restart.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the kubelet")
    show = add("kubeconfig", _kubeconfig, "print the path of a kubeconfig")
    show.add_argument("user", nargs="?", default="admin", choices=["admin", "plain", "other"])
    add("build", _build, "build the programs")
    add("images", _images, "make the images, and give them to containerd if it runs")
    add("packages", lambda _: system.install_packages(), "install Debian's packages that are missing")
    add("why-not", _why_not, "say why no cluster can be started here; 1 if none can")
    kinds = add("crds", _crds, "kinds of others, by --install or --remove; none: say which there are")
    how = kinds.add_mutually_exclusive_group()
    how.add_argument("--install", action="store_const", dest="change", const=crds.install)
    how.add_argument("--remove", action="store_const", dest="change", const=crds.remove)
    kinds.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {' '.join(crds.SETS)}")
    scale = add("scale", _scale, "simulated nodes with 8 GPUs each: scale up 100, scale down")
    scale.add_argument("direction", choices=["up", "down"])
    scale.add_argument("nodes", nargs="?", type=int, default=0)
    others = add("controllers", _controllers, "controllers of others: up, down; neither: say which run")
    others.add_argument("direction", nargs="?", choices=["up", "down"])
    others.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {' '.join(controllers.CONTROLLERS)}")
    kubectl = add("kubectl", _kubectl, "kubectl of this cluster: python -m tests.cluster kubectl -- get pods -A")
    kubectl.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _up(_: argparse.Namespace) -> None:
    Cluster().up()
    print(Cluster().kubeconfig())


def _down(_: argparse.Namespace) -> None:
    Cluster().down()


def _status(_: argparse.Namespace) -> int:
    for name, state in Cluster().status().items():
        print(f"{name:26}{state}")
    return 0 if Cluster().is_up() else 1


def _signal(arguments: argparse.Namespace) -> None:
    getattr(Cluster(), arguments.verb)(arguments.part)


def _restart(arguments: argparse.Namespace) -> None:
    settings: dict[str, Any] = {}
    for word in arguments.set:
        name, _, value = word.partition("=")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    Cluster().restart(arguments.part, *arguments.flags, **settings)


def _kubeconfig(arguments: argparse.Namespace) -> None:
    print(identities.kubeconfig(arguments.user))


def _build(_: argparse.Namespace) -> None:
    build.build()


def _images(_: argparse.Namespace) -> None:
    images.make()
    if Cluster().works("containerd"):
        images.load()


def _crds(arguments: argparse.Namespace) -> None:
    if arguments.change:
        arguments.change(*arguments.names)
    there = crds.installed()
    for name in crds.SETS:
        print(f"{name:12}{'installed' if name in there else ''}".rstrip())


def _scale(arguments: argparse.Namespace) -> None:
    if arguments.direction == "up":
        simulation.up(arguments.nodes)
    else:
        simulation.down()


def _controllers(arguments: argparse.Namespace) -> None:
    if arguments.direction:
        getattr(controllers, arguments.direction)(*arguments.names)
    there = controllers.running()
    for name in controllers.CONTROLLERS:
        print(f"{name:12}{'runs' if name in there else ''}".rstrip())


def _why_not(_: argparse.Namespace) -> int:
    reason = system.why_not()
    print(reason or "a cluster can be started here")
    return 1 if reason else 0


def _kubectl(arguments: argparse.Namespace) -> None:
    kube = str(paths.program("kube"))
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    os.execv(kube, [kube, "kubectl", f"--kubeconfig={identities.kubeconfig()}", *words])  # noqa: S606 - argv, no shell


if __name__ == "__main__":
    sys.exit(main())
