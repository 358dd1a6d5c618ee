"""Stage `search`: an Optuna study over CNNs, on the training and validation splits only.

The only module that imports optuna. The study's journal stands in `mlruns/`, outside DVC's
outputs (which DVC removes before it runs a stage), so that an interrupted study goes on.
"""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from peculiar import tracking
from peculiar.errors import InputError, one_sentence
from peculiar.experiment import share_images, train_network
from peculiar.figures import history_figure
from peculiar.galaxies import Observed, whole_folder
from peculiar.judgement import validate
from peculiar.lineage import code_digest, digests
from peculiar.networks import multiply_adds, output_pixels
from peculiar.params import load
from peculiar.params_networks import LayerSection, Search, Space, Train
from peculiar.pixels import check_crop

RAW, DATA, OUT = Path("data/fetch"), Path("data/observe"), Path("results/search")
JOURNAL = tracking.STORE / "optuna.journal"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTUP_TRIALS = 5  # at random, before the sampler learns from them; a default study has 8
TRIES = 50  # refused networks for each trial before the space is called empty


class RefusedError(Exception):
    """A network that is not worth building."""


def main() -> None:
    """Run the stage from `params.yaml`."""
    with one_sentence():
        search(load(Search), load(Train))


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Layers and learning rate of one trial: the keys that best.yaml holds."""
    depth = trial.suggest_categorical("depth", space.depth)
    layers = [
        {
            "filters": trial.suggest_categorical(f"filters_{i}", space.filters),
            "kernel": trial.suggest_categorical(f"kernel_{i}", space.kernel),
            "stride": trial.suggest_categorical(f"stride_{i}", space.stride),
        }
        for i in range(1, depth + 1)
    ]
    low, high = space.learning_rate
    learning_rate = trial.suggest_float("learning_rate", low, high, log=True)
    return {"layers": layers, "learning_rate": learning_rate}


def refuse(searched: dict[str, Any], space: Space, bands: int, pixels: int) -> None:
    """Raise `RefusedError` for networks that shrink the image to nothing or cost too much."""
    layers = [LayerSection(**layer) for layer in searched["layers"]]
    if output_pixels(layers, pixels) < 1:
        raise RefusedError("shrinks the image to nothing")
    if multiply_adds(layers, bands, pixels) > space.max_multiply_adds:
        raise RefusedError("costs more than search.space.max_multiply_adds")


def searched_keys(trial: FrozenTrial) -> dict[str, Any]:
    """What `suggest` returned for a finished trial."""
    searched: dict[str, Any] = trial.user_attrs["searched"]
    return searched


class Objective:
    """Train one suggestion for a few epochs as an MLflow child run; L2 on validation labels."""

    def __init__(self, params: Search, train: Train, experiment: str, parent: str):
        self.params, self.train = params, train
        self.experiment, self.parent = experiment, parent
        self.data = DATA / params.dataset
        self.observed = Observed.read(self.data)
        self.scaled = share_images(self.observed, train.best.softening_mag_arcsec2, train.best.crop)

    def __call__(self, trial: Trial) -> float:
        """L2 loss on the validation labels after training, Mpc."""
        bands, pixels = self.observed.images.shape[1:3]
        searched = suggest(trial, self.params.space)
        refuse(searched, self.params.space, bands, check_crop(self.train.best.crop, pixels))
        trial.set_user_attr("searched", searched)
        spec = self.train.best.complete(searched, epochs=self.params.epochs)
        history: list[dict[str, float]] = []
        logged = {"seed": self.train.seed, "network": spec.model_dump()}
        with tracking.run(
            self.experiment,
            f"trial-{trial.number}",
            params=logged,
            tags={"stage": "search", "trial": str(trial.number)},
            data=digests(inputs(self.params, self.train)),
            parent=self.parent,
        ) as run_id:
            trial.set_user_attr("run_id", run_id)

            def on_epoch(epoch: int, curve: dict[str, float]) -> None:
                history.append({"epoch": epoch, **curve})
                tracking.log_curves(run_id, history[-1:])
                trial.report(curve["validation_l2_mpc"], epoch)

            network = train_network(self.observed, spec, self.train.seed, on_epoch, self.scaled)
            _, _, metrics = validate(network, self.observed)
            tracking.log_metrics(run_id, metrics, prefix="validation_")
            tracking.log_figure(history_figure(history, f"trial {trial.number}"), "history.png")
            tracking.log_model(network, self.observed.images[self.observed.rows("train")[:2]])
        # of the whole network: that of the last epoch may be another's, or one member's
        return metrics[{"D": "l2_d_mpc", "D_z": "l2_dz_mpc"}[spec.label]]


def inputs(params: Search, train: Train) -> list[Path]:
    """Folders that the trials learn from."""
    return [DATA / params.dataset, *([RAW] if train.best.fresh else [])]


def study_name(params: Search, train: Train) -> str:
    """A name that changes with everything but the number of trials.

    Raising `trials` goes on with the study; other data, other code or another space starts one.
    """
    identity = [
        params.model_dump(exclude={"trials"}),
        train.seed,
        train.best.model_dump(exclude={"epochs"}),
        digests(inputs(params, train)),
        code_digest(),
    ]
    text = json.dumps(identity, sort_keys=True)
    return f"{params.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def open_study(params: Search, train: Train) -> optuna.Study:
    """The study, with trials that a killed process left running marked as failed."""
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(JOURNAL.resolve())))
    name = study_name(params, train)
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    # seeded anew after an interruption, or the sampler would repeat its first suggestions
    with warnings.catch_warnings():  # `group`, which a varying depth needs, is called experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS,
            seed=params.seed + len(study.trials),
            multivariate=True,
            group=True,
        )
    return study


def search(params: Search, train: Train) -> None:
    """Run what is left of the study and write `best.yaml` and the table of trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # refused networks are no news
    experiment = tracking.connect()
    study = open_study(params, train)
    begun = study.user_attrs.get("run_id")
    with (
        tracking.run(
            experiment,
            f"search {study.study_name}",
            params={"search": params.model_dump(exclude={"trials"})},
            tags={"stage": "search", "study": study.study_name},
            data=digests(inputs(params, train)),
            run_id=begun if begun and tracking.run_exists(begun) else None,
        ) as parent,
        whole_folder(OUT) as partial,
    ):
        study.set_user_attr("run_id", parent)
        run_trials(study, params, Objective(params, train, experiment, parent))
        best = study.best_trial
        (partial / "best.yaml").write_text(yaml.safe_dump(searched_keys(best), sort_keys=False))
        columns = ("number", "state", "value", "params", "user_attrs", "duration")
        study.trials_dataframe(attrs=columns).to_csv(partial / "trials.csv", index=False)
        tracking.log_metrics(parent, {"best_validation_l2_mpc": float(best.value or 0)})
        tracking.log_file(partial / "best.yaml")
        tracking.log_file(partial / "trials.csv")


def run_trials(study: optuna.Study, params: Search, objective: Objective) -> None:
    """Run trials until `params.trials` have finished; refused networks do not count."""
    done = len(study.get_trials(states=FINISHED))
    with tqdm(total=params.trials, initial=done, desc="search", unit="trial") as bar:

        def watch(study: optuna.Study, trial: FrozenTrial) -> None:
            if trial.state in FINISHED:
                bar.set_postfix(best_mpc=f"{study.best_value:.2f}")
                bar.update()
            if len(study.get_trials(deepcopy=False, states=FINISHED)) >= params.trials:
                study.stop()

        if done < params.trials:
            study.optimize(
                objective, n_trials=TRIES * params.trials, catch=RefusedError, callbacks=[watch]
            )
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise InputError(
            "params.yaml: search.space: every network shrinks the image to nothing or costs more "
            "than max_multiply_adds: widen the space"
        )


if __name__ == "__main__":
    main()
