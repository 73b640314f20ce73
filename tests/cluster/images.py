"""The images that pods run: Debian's Python, a layer of pip packages above it, and pause. Nothing is pulled.

An image is packed as an OCI layout in a tar, which `ctr images import` reads. Layers are plain tars.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import layers, paths
from .parts import containerd_socket
from .system import command, say, timed

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """Layers, lowest first, and how a container of them starts."""

    names: tuple[str, ...]
    layers: tuple[Path, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def archive() -> Path:
    """All images in one file."""
    return layers.folder() / "images.tar"


def make() -> Path:
    """Make what is missing, or made of something else, and return the archive. Takes minutes once."""
    layers.folder().mkdir(parents=True, exist_ok=True)
    if not are_made():
        with timed("made the images"):
            _pack(_images(), archive())
        _stamp().write_text(_fingerprint())
    return archive()


def are_made() -> bool:
    """Whether the archive holds these images."""
    return archive().exists() and _stamp().exists() and _stamp().read_text() == _fingerprint()


def _stamp() -> Path:
    return layers.folder() / ".made"


def load() -> None:
    """Give the images to containerd, unless it has them."""
    wanted = _stamp().read_text()
    loaded = paths.run_dir() / "images-loaded"
    if not loaded.exists() or loaded.read_text() != wanted:
        ctr: list[str | Path] = [paths.program("ctr"), "--address", containerd_socket(), "--namespace", "k8s.io"]
        # --local reads the archive here instead of streaming it to containerd: half the processor time.
        command([*ctr, "images", "import", "--local", "--discard-unpacked-layers", archive()])
        loaded.write_text(wanted)


def _fingerprint() -> str:
    return hashlib.sha256(Path(__file__).read_bytes() + json.dumps(layers.recipes()).encode()).hexdigest()


def _images() -> list[Image]:
    base, extras, examples, jupyter = (layers.make(name) for name in ("debian", "extras", "examples", "jupyter"))
    python = {"Cmd": ["python3"], "WorkingDir": "/", "Env": [f"PATH={PATH}", "LANG=C.UTF-8"]}
    nonroot = {**python, "User": "1000:1000", "WorkingDir": "/home/user"}
    return [
        Image((paths.PAUSE_IMAGE,), (layers.make("pause"),), {"Entrypoint": ["/pause"]}),
        Image((paths.PYTHON_IMAGE, _latest(paths.PYTHON_IMAGE)), (base, extras), python),
        Image((paths.NONROOT_IMAGE,), (base, extras), nonroot),
        Image((paths.EXAMPLES_IMAGE, _latest(paths.EXAMPLES_IMAGE)), (base, extras, examples, jupyter), python),
    ]


def _latest(name: str) -> str:
    return name.rpartition(":")[0] + ":latest"


def _pack(images: list[Image], target: Path) -> None:
    """Write an OCI layout with all images. A layer that several have is in it once."""
    digests = {path: _digest(path) for image in images for path in image.layers}
    blobs: dict[str, bytes] = {}
    manifests = []
    for image in images:
        described = _manifest(image, digests, blobs)
        manifests += [{**described, "annotations": {"io.containerd.image.name": name}} for name in image.names]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    fresh = target.with_suffix(".new")
    with tarfile.open(fresh, "w") as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps(index).encode())
        for digest, content in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", content)
        for path, digest in digests.items():
            tar.add(path, f"blobs/sha256/{digest}")
    fresh.replace(target)
    say(f"{len(images)} images, {target.stat().st_size >> 20} MiB")


def _manifest(image: Image, digest_of: dict[Path, str], blobs: dict[str, bytes]) -> dict[str, object]:
    """Put an image's config and manifest into `blobs` and return the descriptor of the manifest."""
    digests = [f"sha256:{digest_of[path]}" for path in image.layers]
    config = {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": image.settings,
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    kind = "application/vnd.oci.image.layer.v1.tar"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, "application/vnd.oci.image.config.v1+json", config),
        "layers": [
            {"mediaType": kind, "digest": digest, "size": path.stat().st_size}
            for path, digest in zip(image.layers, digests, strict=True)
        ],
    }
    return _blob(blobs, str(manifest["mediaType"]), manifest)


def _blob(blobs: dict[str, bytes], kind: str, content: object) -> dict[str, object]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
