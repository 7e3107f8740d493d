"""Templates are fetched at build time, here from a server of our own that stands in for TemplateFlow's."""

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.jobs import REPOSITORY

pytestmark = pytest.mark.container

SCRIPT = REPOSITORY / "containers" / "fetch_templates.py"
SPACE = "MNI152NLin2009cAsym"

# The script, with another server's address; TemplateFlow's client takes it as an argument only.
FETCH = """
import os, runpy, sys
from pathlib import Path
from templateflow.client import TemplateFlowClient

client = TemplateFlowClient(root=os.environ["TEMPLATEFLOW_HOME"], s3_root=sys.argv[2])
runpy.run_path(sys.argv[1])["fetch"](client, "MNI152NLin2009cAsym", Path(sys.argv[3]))
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def run_python(tmp_path: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    # Importing the client fills TEMPLATEFLOW_HOME.
    environment = {"TEMPLATEFLOW_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_masks_and_tissue_maps_are_fetched_and_nothing_else(server, tmp_path):
    served, address = server
    names = {
        f"tpl-{SPACE}_res-0{res}_{what}.nii.gz"
        for res in (1, 2)
        for what in ("desc-brain_mask", "label-GM_probseg", "label-WM_probseg")
    }
    (served / f"tpl-{SPACE}").mkdir()
    for name in names:
        (served / f"tpl-{SPACE}" / name).write_bytes(name.encode())
    target = tmp_path / "templateflow"
    done = run_python(tmp_path, "-c", FETCH, SCRIPT, address, target)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.rglob("*") if path.is_file()} == names
    assert all(path.read_bytes() == path.name.encode() for path in target.rglob("*.nii.gz"))


def test_a_template_that_is_there_is_not_fetched(tmp_path):
    (tmp_path / "templateflow" / f"tpl-{SPACE}").mkdir(parents=True)
    assert run_python(tmp_path, SCRIPT, tmp_path / "templateflow", SPACE).returncode == 0


def test_without_a_network_the_way_out_is_said(tmp_path):
    # A proxy that is not there stands for no network.
    proxy = "http://127.0.0.1:9"
    done = run_python(tmp_path, SCRIPT, tmp_path / "templateflow", SPACE, https_proxy=proxy)
    assert done.returncode == 1
    assert "mount it at /templateflow" in done.stderr
