import pytest

from builders.pipeline import inside
from peculiar.cli.main import main
from peculiar.registry import models
from peculiar.runs import tracking

pytestmark = pytest.mark.xdist_group("pipeline")


def test_a_line_a_version(pipeline, capsys):
    with inside(pipeline):
        main(["registry", "list"])
        tracking.open_to_read()
        (version,) = models.versions("peculiar-velocity")
    title, header, line = capsys.readouterr().out.splitlines()
    assert title == f"peculiar-velocity in {pipeline / 'mlruns'}"
    assert "posterior rms [km/s]" in header
    words = line.split()
    assert words[:6] == [
        "1",
        "champion,",
        "champion-uniform-stand-in",
        "cnn2",
        "uniform",
        "stand-in",
    ]
    rms = float(version.tags["validation_posterior_rms_kms"])
    assert words[6:] == [f"{rms:.0f}", version.tags["when"], version.tags["who"], "no"]


def test_a_store_without_versions(tmp_path):
    tracking.connect(tmp_path / "mlruns")
    with inside(tmp_path):
        for command in (["list"], ["export", "out"]):
            with pytest.raises(SystemExit, match="mlruns has no version of 'peculiar-velocity': "):
                main(["registry", *command])


def test_export_and_import(pipeline, tmp_path, capsys):
    out, other = str(tmp_path / "out"), str(tmp_path / "other")
    with inside(tmp_path):
        main(["registry", "export", out, "--store", str(pipeline / "mlruns")])
        main(["registry", "import", out, "--store", other])
        main(["registry", "list", "--store", other])
    assert f"peculiar-velocity in {other}" in capsys.readouterr().out
