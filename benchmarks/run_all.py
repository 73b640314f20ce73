"""Run every benchmark of this folder, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Return the number of benchmarks that failed."""
    failed = 0
    for file in sorted(Path(__file__).parent.glob("b[0-9]*.py")):
        print(f"\n## {file.stem}\n", flush=True)
        failed += subprocess.run([sys.executable, file], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
