"""A configured logger stands beside the run's own, gets all that they get, and goes on after a resume and in `test`."""

import shutil
from collections import defaultdict
from typing import ClassVar

import pytest
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.tools.runs import QUIET, checkpoint, read_csv

IRIS = ("--config", "configs/iris_binary.yaml", *QUIET, "--trainer.callbacks", "null", "--figures.enabled", "true")
OPTIONS = {"seed_everything": 42, "model": "BinaryLogit", "model.optimizer.lr": 0.5, "data.batch_size": 16}
OPTIONS |= {"parameters": 3, "trainable_parameters": 3}
PICTURES = {"val_confusion", "confusion"}  # of the fit and of the test, among others


class Recorder(Logger):
    """A service that keeps what it is given, by the id of a run."""

    runs: ClassVar = defaultdict(lambda: {"options": {}, "metrics": [], "pictures": {}})
    name = "recorder"

    def __init__(self, run_id: str | None = None):
        super().__init__()
        self.run_id = run_id

    @property
    def version(self):
        return self.run_id

    @property
    @rank_zero_experiment
    def experiment(self):
        self.run_id = self.run_id or f"run {len(self.runs)}"
        return self.runs[self.run_id]

    def log_hyperparams(self, params, *args):
        self.experiment["options"].update(params)

    def log_metrics(self, metrics, step=None):
        self.experiment["metrics"].append((step, metrics))

    def log_image(self, key, images, step=None):
        self.experiment["pictures"][key] = (step, images[0].shape)


def fit_resume_and_test(cli, run, *options):
    """The run directory of three commands; pictures come at the end of the second fit and of the test."""
    place = (*IRIS, "--trainer.default_root_dir", run, *options)
    cli("fit", *place, "--trainer.max_epochs", 2, "--figures.enabled", "false")
    cli("fit", *place, "--trainer.max_epochs", 3, "--ckpt_path", "last")
    before = {path.name: path.read_bytes() for path in run.glob("events*")}
    cli("test", *place, "--ckpt_path", "last")
    assert {path.name: path.read_bytes() for path in run.glob("events*")} == before
    return run


@pytest.fixture(scope="module")
def session(cli, tmp_path_factory):
    """The directory of a run with one more logger."""
    return fit_resume_and_test(
        cli, tmp_path_factory.mktemp("loggers") / "run", f"--trainer.logger+={__name__}.Recorder"
    )


def steps_of(metrics, name):
    return [step for step, values in metrics if name in values]


def own_steps(run, name):
    return [int(row["step"]) for row in read_csv(run / "metrics.csv") if row[name]]


def last_step(run):
    return checkpoint(run)["global_step"]


def test_any_logger_gets_options_metrics_pictures_and_the_test_of_the_same_run(session):
    run = session
    [(name, found)] = Recorder.runs.items()
    assert name == "run 0"  # one of that service, for three commands
    assert OPTIONS.items() <= found["options"].items()
    assert steps_of(found["metrics"], "val/loss") == own_steps(run, "val/loss")
    assert steps_of(found["metrics"], "train/loss") == own_steps(run, "train/loss")
    assert steps_of(found["metrics"], "test/accuracy") == [last_step(run)]
    assert found["pictures"].keys() > PICTURES
    assert all(len(shape) == 3 and shape[2] == 3 for _, shape in found["pictures"].values())


def test_tensorboard_gets_them_too_the_test_in_a_folder_of_its_own(session):
    run = session
    fit, test = (EventAccumulator(str(folder)).Reload() for folder in (run, run / "test"))
    content = fit.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()}
    assert OPTIONS.items() <= found.items()
    assert [event.step for event in fit.Scalars("val/loss")] == own_steps(run, "val/loss")
    assert [event.step for event in test.Scalars("test/accuracy")] == [last_step(run)]
    assert "val_confusion" in fit.Tags()["images"]
    assert "confusion" in test.Tags()["images"]
    assert not any(name.startswith("test") for name in fit.Tags()["scalars"])


def test_a_second_test_replaces_the_events_of_the_first(session, cli, tmp_path):
    run = shutil.copytree(session, tmp_path / "run")
    cli("test", *IRIS, "--figures.enabled", "false", "--trainer.default_root_dir", run, "--ckpt_path", "best")
    assert len(list((run / "test").glob("events*"))) == 1


def test_a_new_run_is_a_new_one_for_the_logger_too(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "runs", defaultdict(Recorder.runs.default_factory))
    place = (*IRIS, "--trainer.logger", f"{__name__}.Recorder", "--trainer.max_epochs", 1, "--figures.enabled", "false")
    for folder in ("one", "other"):
        cli("fit", *place, "--trainer.default_root_dir", tmp_path / folder)
    assert list(Recorder.runs) == ["run 0", "run 1"]


def test_without_loggers_there_are_none_at_all(cli, tmp_path):
    run = fit_resume_and_test(cli, tmp_path, "--trainer.logger", "false", "--figures.enabled", "false")
    assert not list(run.rglob("events*"))
    assert not (run / "metrics.csv").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_mlflow_gets_them_in_one_run(cli, tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # in a database it needs sqlalchemy
    store = f"file:{tmp_path / 'store'}"
    overlay = ("--config", "configs/overlays/mlflow.yaml", "--trainer.logger.artifact_location", "null")
    run = fit_resume_and_test(cli, tmp_path / "run", *overlay, "--trainer.logger.tracking_uri", store)
    client = tracking.MlflowClient(store)
    experiment = client.get_experiment_by_name("logistic-regression")
    [found] = client.search_runs([experiment.experiment_id])
    assert {name: str(value) for name, value in OPTIONS.items()}.items() <= found.data.params.items()
    history = client.get_metric_history(found.info.run_id, "val/loss")
    assert [metric.step for metric in history] == own_steps(run, "val/loss")
    assert found.data.metrics.keys() >= {"test/accuracy", "train/loss"}
    pictures = [file.path for file in client.list_artifacts(found.info.run_id, "images")]
    assert all(any(file.startswith(f"images/{name}+step") for file in pictures) for name in PICTURES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_and_biases_gets_them_in_one_run(cli, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    given = defaultdict(list)
    monkeypatch.setattr(wandb.Run, "log", lambda self, data, **_: given[self.id].append(dict(data)))
    start = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: (wandb.finish(), start(**options))[1])  # of the command before
    configs = {}
    update = wandb.Config.update
    monkeypatch.setattr(wandb.Config, "update", lambda self, new, **o: (configs.update(new), update(self, new, **o))[1])
    run = fit_resume_and_test(
        cli, tmp_path / "run", "--config", "configs/overlays/wandb.yaml", "--trainer.logger.save_dir", tmp_path
    )
    wandb.finish()
    assert len({path.name.rpartition("-")[2] for path in (tmp_path / "wandb").glob("offline-run-*")}) == 1
    [logged] = given.values()
    assert OPTIONS.items() <= configs.items()
    steps = [data["trainer/global_step"] for data in logged if "val/loss" in data]
    assert steps == own_steps(run, "val/loss")
    assert [data["trainer/global_step"] for data in logged if "test/accuracy" in data] == [last_step(run)]
    assert {name for data in logged for name in data} > PICTURES
