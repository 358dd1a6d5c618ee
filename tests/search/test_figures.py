import pytest

from builders.studies import opened, suggesting
from peculiar.search import figures
from peculiar.search import study as studies

ONE = {"history", "timeline", "slice", "parallel_coordinates", "importances", "contour"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objectives", "names"), [(["l2"], ONE), (["l2", "parameters"], ONE | {"pareto"})]
)
def test_every_picture_is_drawn(tmp_path, objectives, names):
    space = {"depth": [2], "kernel": [3], "stride": [1]}
    study, params = opened(tmp_path, trials=8, objectives=objectives, in_space=space)
    several = len(objectives) > 1
    run = suggesting(params, lambda t: (float(t.number), 9.0 - t.number) if several else t.number)
    studies.run_trials(study, run, studies.left(study, params))
    paths = figures.draw_study(study, tmp_path / "figures")
    assert {path.stem for path in paths} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_pictures_that_need_more_trials_are_left_out(tmp_path):
    study, params = opened(tmp_path, trials=1)
    studies.run_trials(study, suggesting(params), 1)
    names = {path.stem for path in figures.draw_study(study, tmp_path / "figures")}
    assert names == {"history", "timeline"}


def test_parameters_of_layers_come_last(tmp_path):
    study, params = opened(tmp_path, trials=6, sampler="random")
    studies.run_trials(study, suggesting(params), 6)
    shared = figures.shared_parameters(study)
    assert shared[0] in ("depth", "learning_rate")
    assert len(shared) <= figures.MOST
