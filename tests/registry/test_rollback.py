import pytest

from builders.pipeline import inside
from peculiar.core.errors import InputError
from peculiar.registry import models
from peculiar.registry.rollback import roll_back
from peculiar.runs import tracking

pytestmark = pytest.mark.xdist_group("mlflow")


def test_without_a_champion_before_there_is_nothing_to_roll_back(tmp_path):
    """What it does with one stands in test_promote.py, where there are versions."""
    with inside(tmp_path):
        with pytest.raises(InputError, match=r"there is no champion: .*mlruns holds no models"):
            roll_back("nothing", "a test")
        assert list(tmp_path.iterdir()) == []
        tracking.connect()
        with pytest.raises(InputError, match="nothing has no champion: there is nothing to roll"):
            roll_back("nothing", "a test")
        import mlflow

        mlflow.MlflowClient().create_registered_model("alone")
        mlflow.MlflowClient().create_model_version("alone", "file:///nowhere")
        models.move("alone", {"champion": "1"}, {"what": "test"})
        with pytest.raises(InputError, match="alone has no previous champion"):
            roll_back("alone", "a test")
        assert len(models.history("alone")) == 1
