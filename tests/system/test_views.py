"""DVC's own views: metrics, plots and experiments, as a terminal and a browser show them."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from builders.measured import NETWORKS
from builders.pipeline import dvc
from peculiar.pipeline.evaluate import BASELINES, HEADLINE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dvc")]

METRICS = "results/evaluate/metrics"
KINDS = ("history", "validation", "distances", "redshift_distances", "velocities", "calibration")


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


@pytest.fixture
def committed(dvc_folder, tmp_path):
    """A copy whose parameters and lock are committed, as experiments need them."""
    folder = tmp_path / "peculiar"
    shutil.copytree(dvc_folder, folder, symlinks=True)
    (folder / "mlruns/.gitignore").write_text("*\n")  # as in the repository
    dvc(folder, "repro")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "ran")
    return folder


class Links(HTMLParser):
    """Every address that a page asks for, and its scripts."""

    def __init__(self, page):
        super().__init__()
        self.addresses, self.scripts = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize(("where", "columns"), [(".", 100), ("results/evaluate", 80)])
def test_metrics_are_a_row_a_network_and_fit_a_terminal(dvc_folder, where, columns):
    lines = dvc(dvc_folder / where, "metrics", "show").stdout.splitlines()
    assert lines[0].split() == ["Path", *sorted(HEADLINE)]
    assert len(lines) == 1 + len(NETWORKS) + len(BASELINES)
    assert max(map(len, lines)) <= columns


def test_plots_are_pictures_that_need_no_network(dvc_folder, tmp_path):
    page = dvc(dvc_folder, "plots", "show", "--out", str(tmp_path)).stdout.strip()
    links = Links(Path(page.removeprefix("file://")).read_text())
    assert links.scripts == 0
    assert len(links.addresses) == len(NETWORKS) * len(KINDS)
    for address in links.addresses:
        assert address.startswith("static/")
        assert (tmp_path / address).read_bytes().startswith(b"\x89PNG")


def test_an_experiment_by_set_param_trains_that_network_alone(committed):
    done = dvc(committed, "exp", "run", "-n", "short", "-S", "train.specs.cnn2.epochs=5")
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running")]
    assert ran == ["train@uniform-cnn2", "evaluate", "nulls", "promote"]
    run = json.loads((committed / "results/train/uniform-cnn2/run.json").read_text())
    assert run["spec"]["epochs"] == 5
    params = yaml.safe_load((committed / "params.yaml").read_text())
    assert params["train"]["specs"]["cnn2"]["epochs"] == 5
    changed = json.loads(dvc(committed, "metrics", "diff", "--json").stdout)
    assert set(changed) == {f"{METRICS}/uniform-cnn2.json"}
    lines = dvc(committed, "metrics", "diff", "HEAD", "short").stdout.splitlines()
    assert len(lines) == 1 + len(changed[f"{METRICS}/uniform-cnn2.json"])
    assert max(map(len, lines)) <= 100
    shown = dvc(committed, "exp", "show", "--only-changed", "--csv").stdout.splitlines()
    assert f"{METRICS}/uniform-cnn2.json:l2_d_mpc" in shown[0]
    assert "train.specs.cnn2.epochs" in shown[0]
    assert any(line.startswith("short,") for line in shown)
