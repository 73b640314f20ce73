"""GPUs without a GPU: a library and programs that say what the real ones say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

STUB = Path(__file__).with_name("nvml_stub.c")

# `--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu`, a look after the other
SMI = """\
#!/bin/sh
here=$(dirname "$0")
echo "$$ $*" >> "$here/calls"
case "$*" in
  *"-l 1"*) while :; do cat "$here/looks"; sleep 0.1; done ;;
  *mig.mode.current*) printf '0, GPU-a, T4, 4, 15360, Disabled\\n1, GPU-b, T4, 4, 15360, Disabled\\n' ;;
esac
"""
LOOKS = "0, 97, 7234, 15360, 81.25, 73\n1, [N/A], [N/A], 15360, [Not Supported], 44\n"


def library(folder: Path) -> Path:
    """Compile libnvidia-ml.so.1 into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(target), str(STUB)], check=True)
    return folder


def program(folder: Path, name: str, text: str) -> Path:
    """Write a program into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder


def smi(folder: Path, looks: str = LOOKS) -> Path:
    """Make a `nvidia-smi` that says these lines; return its folder."""
    program(folder, "nvidia-smi", SMI)
    (folder / "looks").write_text(looks)
    (folder / "calls").write_text("")
    return folder


def first_on_path(folder: Path) -> str:
    """Return a PATH on which the programs of a folder come first."""
    return f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"
