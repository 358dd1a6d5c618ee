import csv

import pytest

from builders.pipeline import inside
from peculiar.cli.main import main
from peculiar.cli.results import results_text

pytestmark = pytest.mark.xdist_group("pipeline")


def entry(network, rms, source="stand-in"):
    numbers = {"posterior_rms_kms": rms, "l2_d_mpc": "7.5", "coverage_68": "0.68"}
    errors = {f"{key}_err": "0.25" for key in numbers}
    return {"dataset": "uniform", "source": source, "network": network, **numbers, **errors}


def test_the_best_is_first_and_the_unknown_last():
    rows = [entry("b", "301"), entry("none", "nan"), entry("a", "299"), entry("empty", "")]
    lines = results_text(rows).splitlines()
    assert [line.split()[2] for line in lines[2:]] == ["a", "b", "none", "empty"]
    assert lines[2].startswith("uniform (stand-in)  a ")
    assert "7.50 ± 0.25" in lines[2]
    assert lines[4].split()[-4:] == ["-", "0.680", "±", "0.250"]


def test_the_table_of_the_latest_evaluation(pipeline, capsys):
    with inside(pipeline):
        main(["results"])
    lines = capsys.readouterr().out.splitlines()
    with (pipeline / "results/evaluate/table.csv").open(newline="") as file:
        assert len(lines) == 2 + len(list(csv.DictReader(file)))
    assert all(line.startswith("uniform (stand-in)") for line in lines[2:])


def test_another_table_is_refused(tmp_path):
    (tmp_path / "results/evaluate").mkdir(parents=True)
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "results/evaluate/table.csv").write_text(text)
        with inside(tmp_path), pytest.raises(SystemExit, match="is not a table of results: run"):
            main(["results"])
