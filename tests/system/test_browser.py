"""MLflow's pages as a browser shows them: which network, label and normalisation, and the champion.

With PECULIAR_SCREENSHOTS the pictures are kept in that folder.
"""

import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from builders.browser import needs_chromium
from builders.ports import free_port
from builders.processes import answers, started, wait_until

PATIENCE_S = 120
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("pipeline"),
    needs_chromium,
]


@pytest.fixture(scope="module")
def server(pipeline):
    port = free_port()
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{pipeline}/mlruns/mlflow.db"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with started(*command, env=environment, **quiet) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), process, PATIENCE_S)
        yield url


@pytest.fixture(scope="module")
def runs(pipeline):
    """Experiment's id, and the id of each run by its name."""
    with sqlite3.connect(pipeline / "mlruns/mlflow.db") as database:
        found = database.execute("select experiment_id, name, run_uuid from runs").fetchall()
    return str(found[0][0]), {name: run for _, name, run in found}


def shown(browser, address, *texts, picture):
    """Text of a page, once it has all these texts."""
    browser.get("about:blank")  # the address differs behind its # alone
    browser.get(address)

    def text(driver):
        return driver.find_element(By.TAG_NAME, "body").text

    WebDriverWait(browser, PATIENCE_S).until(lambda driver: all(t in text(driver) for t in texts))
    folder = os.environ.get("PECULIAR_SCREENSHOTS")
    if folder:
        time.sleep(3)  # for what is drawn after the text
        browser.save_screenshot(str(Path(folder) / f"mlflow_{picture}.png"))
    return text(browser)


def test_the_experiment_page_names_every_network(server, browser, runs):
    experiment, names = runs
    wanted = [name for name in names if name.startswith("uniform-")]
    assert len(wanted) == 4
    shown(browser, f"{server}/#/experiments/{experiment}/runs", *wanted, picture="experiment")


def test_runs_are_compared_by_family_label_and_normalisation(server, browser, runs):
    experiment, names = runs
    chosen = [run for name, run in names.items() if name.startswith("uniform-")]
    query = f"runs={quote(json.dumps(chosen))}&experiments={quote(json.dumps([experiment]))}"
    text = shown(
        browser,
        f"{server}/#/compare-runs?{query}",
        "Parallel Coordinates Plot",
        "Scatter Plot",
        "network.family",
        "network.label",
        "network.normalise",
        picture="compare",
    )
    assert "Comparing 4 Runs" in text
    assert browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot, .plot-container")


def test_a_trial_names_its_study(server, browser, runs):
    experiment, names = runs
    (study,) = (name for name in names if name.startswith("search "))
    address = f"{server}/#/experiments/{experiment}/runs/{names['trial-0']}"
    shown(browser, address, "trial-0", "Parent run", study, picture="trial")
    shown(
        browser,
        f"{server}/#/experiments/{experiment}/runs/{names[study]}",
        study,
        "best_validation_l2_mpc",
        picture="study",
    )


def test_the_model_s_page_shows_the_champion(server, browser):
    address = f"{server}/#/models/peculiar-velocity"
    shown(browser, address, "Version 1", "@ champion", "promoted", picture="model")
