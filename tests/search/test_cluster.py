import socket
from types import SimpleNamespace

import pytest

from builders.pipeline import tiny_params
from peculiar import parallel
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.search import cluster
from peculiar.search.params import Search


def params(**changes):
    return validate(Search, tiny_params()["search"] | changes, "search")


@pytest.mark.parametrize(
    ("workers", "cores", "gpus", "threads", "devices"),
    [
        (1, 8, 0, "8", [None]),
        (4, 8, 0, "2", [None] * 4),
        (3, 8, 0, "2", [None] * 3),
        (4, 2, 0, "1", [None] * 4),
        (2, 8, 2, "4", ["0", "1"]),
        (4, 8, 2, "2", ["0", "1", "0", "1"]),
    ],
)
def test_workers_share_cores_and_have_a_gpu_each(workers, cores, gpus, threads, devices):
    environments = cluster.worker_environments(workers, cores, gpus)
    assert [worker.get("CUDA_VISIBLE_DEVICES") for worker in environments] == devices
    assert {worker["OMP_NUM_THREADS"] for worker in environments} == {threads}
    assert workers * int(threads) <= max(cores, workers)


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_S", 1)
    with (
        pytest.raises(InputError, match=r"search\.cluster: no Dask scheduler at tcp://127\.0\.0"),
        cluster.client(params(cluster="tcp://127.0.0.1:9")),
    ):
        pass


def test_slurm_jobs_have_the_resources_of_the_parameters():
    search = params(cluster="slurm", storage="postgresql://me@db/optuna")
    slurm = search.slurm.model_copy(
        update={
            "partition": "gpu",
            "directives": ("--gres=gpu:1",),
            "prologue": ("module x",),
            "interface": "lo",
        }  # Dask asks the network for its own address otherwise
    )
    script = cluster.job_script(search.model_copy(update={"slurm": slurm}))
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=15G",
        "#SBATCH -t 04:00:00",
        "#SBATCH --gres=gpu:1",
        "module x",
        "export OMP_NUM_THREADS=4",
    ):
        assert line in script
    assert "--nthreads 1" in script


def test_a_journal_is_refused_where_workers_are_of_another_host():
    answers = {"tcp://a:1": socket.gethostname(), "tcp://b:1": "elsewhere"}
    client = SimpleNamespace(run=lambda _: answers)
    with pytest.raises(InputError, match=r"search\.storage: a journal .* runs on elsewhere:"):
        cluster.check_hosts(client)
    cluster.check_hosts(SimpleNamespace(run=lambda _: {"tcp://a:1": socket.gethostname()}))


def test_the_scheduler_of_all_stages_takes_the_place_of_local(dask_scheduler, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", dask_scheduler)
    with cluster.client(params(cluster="local")) as client:
        assert client.scheduler.address == dask_scheduler
