"""A server that accepts connections and never answers ends in one sentence, soon."""

import os

import mlflow
import pytest

from builders.ports import silent_server
from peculiar.core.errors import InputError
from peculiar.runs import servers, tracking

pytestmark = pytest.mark.xdist_group("mlflow")


@pytest.fixture(autouse=True)
def _store():
    before = mlflow.get_tracking_uri()
    yield
    tracking.attach(before)


@pytest.mark.parametrize("open_store", [tracking.connect, tracking.open_to_read])
def test_a_silent_tracking_server_is_one_sentence(open_store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with silent_server() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(InputError, match=r"cannot be opened .*: start its server") as refusal:
            open_store(tmp_path / "mlruns")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("driver", ["", "+psycopg"])
def test_a_silent_database_is_one_sentence_without_its_password(driver, monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "CONNECT_S", 2)  # the least of psycopg
    with silent_server() as port:
        uri = f"postgresql{driver}://me:secret@127.0.0.1:{port}/mlflow"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(
            InputError, match=r"me:\*\*\*@.* cannot be opened \(.*timeout"
        ) as refusal:
            tracking.open_to_read(tmp_path / "mlruns")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("theirs", [{}, {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77"}])
def test_the_first_contact_ends_within_a_minute_unless_the_user_wants_more(monkeypatch, theirs):
    for key in servers.LIMITS:
        monkeypatch.delenv(key, raising=False)
    for key, value in theirs.items():
        monkeypatch.setenv(key, value)
    before = dict(os.environ)
    with servers.first_contact("http://127.0.0.1:1"):
        held = {key: int(os.environ[key]) for key in servers.LIMITS}
    assert dict(os.environ) == before
    assert held == {key: int(value) for key, value in (servers.LIMITS | theirs).items()}
    # the waits between attempts are 2 and 4 s, and a random second each
    ours = {key: int(value) for key, value in servers.LIMITS.items()}
    attempts = 1 + ours["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    assert attempts * ours["MLFLOW_HTTP_REQUEST_TIMEOUT"] + 8 <= 60
