"""Container images of docker/Dockerfile, built without a daemon or a registry.

The base image is what apt's mirror gives of Debian 12, under the name that the Dockerfile asks for: Python
3.11 too, and not the same files. What pip is configured with here (an index, certificates) goes into each
build, and nothing of it into an image.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/python:3.11-slim"
_PACKAGES = "python3,python3-pip,ca-certificates"
_PIP_SETTINGS = (Path("/etc/pip.conf"), Path.home() / ".config" / "pip" / "pip.conf")


@dataclass(frozen=True, slots=True)
class Images:
    """A store of images of its own, below a folder that goes with the test."""

    buildah: str
    folder: Path

    def run(self, *arguments: str, timeout_s: float = 900) -> str:
        """Run buildah; return what it printed last."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout_s, cwd=ROOT
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout.strip().rpartition("\n")[2]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of buildah on this store."""
        stores = ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]
        first, *others = arguments
        isolated = ["--isolation", "chroot"] if first in ("build", "run") else []
        return [self.buildah, "--storage-driver", "vfs", *stores, first, *isolated, *others]

    def make_base(self, debootstrap: str) -> None:
        """Make the base image of Debian's own Python."""
        root = self.folder / "base"
        command = [debootstrap, "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        subprocess.run(command, check=True, capture_output=True, timeout=900)
        (root / "usr/bin/python").symlink_to("python3")
        # Debian keeps pip away from its own Python, which the image of that name does not.
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(root), "/")
        self.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        self.run("commit", "--quiet", "--rm", container, BASE)

    def build(self, target: str, arguments: Mapping[str, str]) -> str:
        """Build a target of the Dockerfile; return a container of it."""
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        name = f"hepatocast-{target}"
        file = str(ROOT / "docker" / "Dockerfile")
        options = ["--pull=never", "--format", "docker", *_pip_of_this_machine(), *given]
        self.run("build", *options, "--file", file, "--target", target, "--tag", name, str(ROOT))
        return self.run("from", "--pull=never", name)

    @contextmanager
    def running(self, container: str, command: Sequence[str], folder: Path, log: Path) -> Iterator[None]:
        """Run a command in a container that sees a folder as /etc/hepatocast; ended afterwards."""
        line = self.command("run", "--volume", f"{folder}:/etc/hepatocast:ro", container, "--", *command)
        with log.open("wb") as output, subprocess.Popen(line, stdout=output, stderr=output) as process:
            try:
                yield
            finally:
                process.terminate()
                process.wait(60)


def _pip_of_this_machine() -> list[str]:
    """Return options that let pip in a build find what pip finds here."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    files = [path for path in _PIP_SETTINGS if path.is_file()]
    texts = [*variables.values(), *(path.read_text() for path in files)]
    paths = re.compile(r"(?<![\w:/])(?:file://)?(/[\w./+-]+)")
    named = {Path(found) for text in texts for found in paths.findall(text)}
    # An index of pages refers to files beside it.
    named = {path.parent if path.name == "simple" else path for path in named}
    mounts = sorted({*files, *(path for path in named if path.exists())})
    options = [part for path in mounts for part in ("--volume", f"{path}:{path}:ro")]
    for name, value in variables.items():
        options += ["--env", f"{name}={value}", "--unsetenv", name]
    return options
