"""Files that the stages read and write, below the folder of a repository, as in `dvc.yaml`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Files and folders of the stages.

    Attributes
    ----------
    root : Path
        Folder that holds `params.yaml`, `data` and `results`; by default the working folder.
    """

    root: Path = Path()

    @property
    def params(self) -> Path:
        """Parameters of all stages."""
        return self.root / "params.yaml"

    @property
    def fetched(self) -> Path:
        """Raw images, written by `fetch`."""
        return self.root / "data/fetch"

    def observed(self, dataset: str) -> Path:
        """Observed images of a dataset, written by `observe`."""
        return self.root / "data/observe" / dataset

    @property
    def searched(self) -> Path:
        """The study's table and figures, written by `search`."""
        return self.root / "results/search"

    @property
    def best(self) -> Path:
        """The best network of the study, written by `search`."""
        return self.searched / "best.yaml"

    def trained(self, name: str) -> Path:
        """Weights and record of the network DATASET-NETWORK, written by `train`."""
        return self.root / "results/train" / name

    @property
    def evaluated(self) -> Path:
        """Tables and figures on the test split, written by `evaluate`."""
        return self.root / "results/evaluate"

    @property
    def nulls(self) -> Path:
        """Null tests of each network DATASET-NETWORK, written by `nulls`."""
        return self.root / "results/nulls"

    @property
    def promoted(self) -> Path:
        """The decision, written by `promote`."""
        return self.root / "results/promote"

    @property
    def store(self) -> Path | None:
        """MLflow's store; None for that of the working folder (`peculiar.runs.store`)."""
        return None if self.root == Path() else self.root / "mlruns"
