"""Nothing in a checkpoint is ever run, wherever it hides and however it is loaded; and what we write loads as data."""

import os
import pickle
import random
from itertools import product

import lightning as L
import pytest
import torch
import yaml

from callbacks.run.checkpoint_io import AtomicCheckpointIO
from datamodules.table.iris import IrisDataModule
from datamodules.table.xor import XORDataModule
from datamodules.text.sentences import TextDataModule
from deploy.classifier import Classifier
from logreg.binary import BinaryLogit
from logreg.net_classifier import MLP, NetClassifier
from logreg.one_vs_all import OneVsAll
from logreg.softmax import SoftmaxRegression
from tests.conftest import refused as one_line
from tests.tools.ready import ready
from tests.tools.runs import NO_BAR

QUIET = (*NO_BAR, "--trainer.callbacks", "null", "--trainer.logger", "false")


class Payload:
    """Whoever unpickles it without protection makes a directory."""

    def __init__(self, victim):
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


@pytest.fixture
def trained(short_fit):
    """`trained(config)` is the last.ckpt of one short run of that config; it stays as it is."""
    return lambda config: short_fit(config) / "checkpoints/last.ckpt"


@pytest.fixture
def victim(tmp_path):
    """The directory that exists once a payload has run."""
    return tmp_path / "the_payload_has_run"


PLACES = {  # how a payload comes into a checkpoint
    "state_dict": lambda c, payload: c["state_dict"].update({next(iter(c["state_dict"])): payload}),
    "extra_state": lambda c, payload: c["state_dict"].update({"decision._extra_state": payload}),
    "hyper_parameters": lambda c, payload: c["hyper_parameters"].update(l2=payload),
    "class_path": lambda c, payload: c["hyper_parameters"].update(_class_path=payload),
    "callbacks": lambda c, payload: next(iter(c["callbacks"].values())).update(best_model_path=payload),
    "datamodule": lambda c, payload: [c[key].update(x=payload) for key in c if key.endswith("DataModule")],
    "loops": lambda c, payload: c["loops"]["fit_loop"].update(state_dict={"x": payload}),
    "optimizer_states": lambda c, payload: c.update(optimizer_states=[payload]),
    "lr_schedulers": lambda c, payload: c.update(lr_schedulers=[payload]),
    "global_step": lambda c, payload: c.update(global_step=payload),
    "a place of its own": lambda c, payload: c.update(anything={"deep": [({"down": payload},)]}),
}


def poisoned(good, path, place, victim):
    """A copy of a good checkpoint with a payload in it, proven to work on whoever loads it unsafely."""
    checkpoint = torch.load(good, weights_only=True)
    PLACES[place](checkpoint, Payload(victim))
    torch.save(checkpoint, path)
    torch.load(path, weights_only=False)
    assert victim.exists()
    victim.rmdir()
    return path


@pytest.fixture
def poison(trained, tmp_path, victim):
    return poisoned(trained("iris_binary"), tmp_path / "poison.ckpt", "hyper_parameters", victim)


@pytest.fixture
def refused(cli, tmp_path, victim):
    """`refused(command, checkpoint, config)` is the line that a command ends in; it makes no file and runs nothing."""

    def refuse(command, path, config="iris_binary", *options):
        arguments = ("--config", f"configs/{config}.yaml", *QUIET, "--trainer.default_root_dir", tmp_path / "run")
        line = one_line(cli, command, *arguments, "--ckpt_path", path, *options)
        assert not victim.exists()
        assert not (tmp_path / "run").exists()
        return line

    return refuse


# Damage

COMMANDS = ("fit", "validate", "test", "predict")


def in_turn(*choices):
    """Cases in which each choice comes with others in turn; as one reader serves all, the other cases are nightly."""
    choices = [[*each] for each in choices]
    some = {tuple(each[number % len(each)] for each in choices) for number in range(max(map(len, choices)))}
    return [case if case in some else pytest.param(*case, marks=pytest.mark.nightly) for case in product(*choices)]


def flipped(good, path, bit):
    """A copy of a file in which one bit is another."""
    content = bytearray(good.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return path


ROWS = {
    "text_csv": ["will it snow", "play some jazz"],
    "iris_ova": [[1.4, 0.2]],
    "table_csv": [{"age": 33, "months": 38, "plan": "family", "town": "Oslo"}],
}


@pytest.mark.parametrize("config", ROWS)
def test_a_flipped_bit_is_refused_or_changes_no_prediction(trained, tmp_path, config):
    good = trained(config)
    expected = Classifier.load(good).predict_proba(ROWS[config])
    weight = next(iter(torch.load(good, weights_only=True)["state_dict"].values()))
    in_weight = 8 * good.read_bytes().index(weight.numpy().tobytes()) + 22  # still a finite number
    refused = set()
    for bit in (in_weight, *random.Random(7).sample(range(8 * good.stat().st_size), 60)):
        try:
            found = Classifier.load(flipped(good, tmp_path / "flipped.ckpt", bit)).predict_proba(ROWS[config])
        except ValueError as error:
            assert "\n" not in str(error)
            refused.add(bit)
        else:
            assert (found == expected).all(), bit
    assert in_weight in refused
    assert len(refused) > 30  # the others are between the parts of the file


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_takes_a_checkpoint_with_a_flipped_bit(refused, trained, tmp_path, command):
    good, last = trained("iris_ova"), tmp_path / "last.ckpt"
    weight = next(iter(torch.load(good, weights_only=True)["state_dict"].values()))
    flipped(good, last, 8 * good.read_bytes().index(weight.numpy().tobytes()) + 22)
    assert f"{last} is no checkpoint that can be loaded safely" in refused(command, last, "iris_ova")
    for loads in (Classifier.load, *(kind.load_from_checkpoint for kind, _ in (*MODELS, *DATA))):
        with pytest.raises(ValueError, match=f"^{last} is no checkpoint"):
            loads(last)


# The command line


@pytest.mark.parametrize(("command", "place"), in_turn(COMMANDS, PLACES))
def test_a_payload_is_not_run(refused, trained, tmp_path, victim, command, place):
    path = poisoned(trained("text_csv"), tmp_path / "last.ckpt", place, victim)
    assert f"{path} is no checkpoint that can be loaded safely" in refused(command, path, "text_csv")


@pytest.mark.parametrize(("command", "how"), in_turn(COMMANDS, ("both", "option", "environment")))
def test_protection_cannot_be_switched_off(refused, monkeypatch, poison, command, how):
    if how in ("environment", "both"):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    option = ("--weights_only", "false") if how in ("option", "both") else ()
    assert "loaded safely" in refused(command, poison, "iris_binary", *option)


def test_a_trainer_that_is_built_by_hand_around_our_checkpoint_files_is_protected(tmp_path, victim, poison):
    trainer = L.Trainer(plugins=[AtomicCheckpointIO()], default_root_dir=tmp_path, max_epochs=1, barebones=True)
    model, data = BinaryLogit(2), ready(IrisDataModule(classes=["versicolor", "virginica"], features=["petal length"]))
    for command in (trainer.fit, trainer.validate, trainer.test, trainer.predict):
        with pytest.raises(ValueError, match="holds more than tensors and plain values"):
            command(model, datamodule=data, ckpt_path=poison, weights_only=False)
    assert not victim.exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda payload, path: path.write_bytes(pickle.dumps(payload)),
        lambda payload, path: path.write_bytes(pickle.dumps({"state_dict": payload})),
        lambda payload, path: torch.save(payload, path),
        lambda payload, path: torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=False),
        lambda payload, path: torch.save({payload.victim: payload}, path, pickle_protocol=4),
    ],
    ids=["pickle", "pickle_of_a_dict", "bare", "old_format", "newer_protocol"],
)
def test_files_that_are_no_checkpoints_are_not_run_either(refused, tmp_path, victim, write):
    write(Payload(victim), tmp_path / "x.ckpt")
    assert "loaded safely" in refused("test", tmp_path / "x.ckpt")


# load_from_checkpoint


MODELS = [
    (BinaryLogit, "iris_binary"),
    (OneVsAll, "iris_ova"),
    (SoftmaxRegression, "text_csv"),
    (NetClassifier, "xor_mlp"),
]
DATA = [(IrisDataModule, "iris_binary"), (XORDataModule, "xor_mlp"), (TextDataModule, "text_csv")]
each_kind = pytest.mark.parametrize(("kind", "config"), [*MODELS, *DATA], ids=lambda v: getattr(v, "__name__", None))


@pytest.mark.parametrize(("of", "place"), in_turn([*MODELS, *DATA], PLACES))
def test_load_from_checkpoint_does_not_run_a_payload(monkeypatch, trained, tmp_path, victim, of, place):
    kind, config = of
    path = poisoned(trained(config), tmp_path / "last.ckpt", place, victim)
    for switched_off in (False, True):
        if switched_off:
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        for options in ({}, {"weights_only": None}):
            with pytest.raises(ValueError, match="holds more than tensors and plain values"):
                kind.load_from_checkpoint(path, **options)
        with pytest.raises(ValueError, match="weights_only=True"):
            kind.load_from_checkpoint(path, weights_only=False)
    assert not victim.exists()


# Payloads of plain strings, which weights_only=True lets through: class paths that jsonargparse would import and call


def as_instantiated(checkpoint, key, hyper_parameters):
    """Hyperparameters as LightningCLI writes them, for jsonargparse to instantiate what they name."""
    checkpoint[key] = {"_instantiator": "lightning.pytorch.cli.instantiate_module"} | hyper_parameters


def calling(victim):
    """What jsonargparse would make a directory of."""
    return {"class_path": "os.mkdir", "init_args": {"path": str(victim), "mode": 511}}


STRINGS = {
    "optimizer": lambda victim: {"optimizer": calling(victim)},
    "lr_scheduler": lambda victim: {"lr_scheduler": calling(victim)},
    "option": lambda victim: {"l2": calling(victim)},
    "deep_option": lambda victim: {"class_weight": [{"a": calling(victim)}]},
    "class_path": lambda victim: {"_class_path": "os.mkdir", "path": str(victim)},
    "second_file": lambda victim: {"_class_path": "torch.load", "f": str(victim), "weights_only": False},
    "import": lambda victim: {"_class_path": f"{victim.name}.Thing"},
}


@pytest.fixture
def importable(monkeypatch, tmp_path, victim):
    """A module of the victim's name, which makes the directory when it is imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{victim.name}.py").write_text(f"import os\nos.mkdir({str(victim)!r})\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(folder)


@each_kind
@pytest.mark.parametrize("payload", STRINGS.values(), ids=STRINGS)
def test_nothing_is_built_from_what_a_file_names(trained, tmp_path, victim, importable, kind, config, payload):
    checkpoint = torch.load(trained(config), weights_only=True)
    if (kind, config) in MODELS:
        as_instantiated(checkpoint, "hyper_parameters", checkpoint["hyper_parameters"] | payload(victim))
        said = r"^hyper_parameters: expected .*, got"
    else:
        as_instantiated(checkpoint, "datamodule_hyper_parameters", payload(victim))
        said = "expected no datamodule_hyper_parameters"
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=said) as caught:
        kind.load_from_checkpoint(tmp_path / "evil.ckpt", **({"net": MLP(2, 2)} if kind is NetClassifier else {}))
    assert "\n" not in str(caught.value)
    assert not victim.exists()


@each_kind
def test_no_second_file_of_hyperparameters_is_read(trained, tmp_path, victim, kind, config):
    (tmp_path / "hparams.yaml").write_text(f"_instantiator: os.mkdir\npath: {victim}\n")
    with pytest.raises(TypeError, match="unexpected keyword argument 'hparams_file'"):
        kind.load_from_checkpoint(trained(config), hparams_file=tmp_path / "hparams.yaml")
    assert not victim.exists()


@pytest.mark.parametrize(("command", "config"), in_turn(COMMANDS, ["iris_binary", "iris_ova", "text_csv", "xor_mlp"]))
def test_the_command_line_builds_nothing_that_a_checkpoint_names(
    cli, trained, tmp_path, victim, importable, command, config
):
    checkpoint = torch.load(trained(config), weights_only=True)
    everything = {name: value for payload in STRINGS.values() for name, value in payload(victim).items()}
    as_instantiated(checkpoint, "hyper_parameters", everything)
    as_instantiated(checkpoint, "datamodule_hyper_parameters", everything)
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 4)  # one more than it has
    cli(command, "--config", f"configs/{config}.yaml", *QUIET, *place, "--ckpt_path", tmp_path / "evil.ckpt")
    assert not victim.exists()


# A configuration is as trusted as a script, but an optimizer is an optimizer

CALLABLES = {
    "function": "os.mkdir",
    "function with arguments": {"class_path": "os.mkdir", "init_args": {"path": "VICTIM"}},
    "class": {"class_path": "pathlib.Path", "init_args": {}},
    "process": {"class_path": "subprocess.Popen", "init_args": {"args": ["mkdir", "VICTIM"]}},
    "scheduler_or_optimizer": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}},
}


@pytest.mark.parametrize(("command", "of"), in_turn(COMMANDS, product(["optimizer", "lr_scheduler"], CALLABLES)))
def test_nothing_but_torchs_is_called_as_optimizer_or_scheduler(cli, trained, tmp_path, victim, command, of):
    option, value = of[0], CALLABLES[of[1]]
    saved = yaml.safe_load((trained("iris_binary").parents[1] / "config.yaml").read_text())
    saved["model"]["init_args"][option] = yaml.safe_load(yaml.safe_dump(value).replace("VICTIM", str(victim)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    place = ("--trainer.default_root_dir", tmp_path / "run")
    checkpoint = () if command == "fit" else ("--ckpt_path", trained("iris_binary"))
    with pytest.raises(SystemExit) as exit:  # in a line that names all types
        cli(command, "--config", tmp_path / "config.yaml", *place, *checkpoint)
    assert str(exit.value.code).startswith("error: ")
    assert "\n" not in exit.value.code
    assert option in exit.value.code
    assert not victim.exists()
    assert not (tmp_path / "run").exists()


# Files that are no checkpoint of this run


ADDRESSES = ("https://127.0.0.1/best.ckpt", "file:///tmp/best.ckpt", "s3://bucket/best.ckpt")


@pytest.mark.parametrize(("command", "address"), in_turn(COMMANDS, ADDRESSES))
def test_an_address_is_no_checkpoint_file(refused, command, address):
    assert f"--ckpt_path: expected a checkpoint file, found none at {address}" in refused(command, address)


def without(*keys):
    return lambda checkpoint: {key: value for key, value in checkpoint.items() if key not in keys}


def with_weights(change):
    def edit(checkpoint):
        name, weight = next(iter(checkpoint["state_dict"].items()))
        return checkpoint | {"state_dict": checkpoint["state_dict"] | {name: change(weight)}}

    return edit


def of_other_classes(checkpoint):
    return checkpoint | {"hyper_parameters": checkpoint["hyper_parameters"] | {"class_names": ["a", "b", "c"]}}


OTHER_FILES = {
    "other classes": (of_other_classes, "hyper_parameters.class_names: expected ['setosa', 'versicolor', 'virginica']"),
    "a bare state_dict": (lambda checkpoint: checkpoint["state_dict"], "expected a Lightning checkpoint"),
    "no data": (without("IrisDataModule"), "IrisDataModule"),
    "no version": (
        without("pytorch-lightning_version"),
        "lacks pytorch-lightning_version: use a checkpoint that fit has written",
    ),
    "more features": (with_weights(lambda weight: torch.zeros(9, *weight.shape[1:])), "shape torch.Size([9, "),
    "no finite number": (
        with_weights(lambda weight: weight * float("nan")),
        "numbers that are not finite: train again",
    ),
}


@pytest.mark.parametrize("command", ["fit", "test"])
@pytest.mark.parametrize(("edit", "said"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_checkpoint_that_does_not_fit_is_refused(refused, trained, tmp_path, command, edit, said):
    torch.save(edit(torch.load(trained("iris_ova"), weights_only=True)), tmp_path / "last.ckpt")
    assert said in refused(command, tmp_path / "last.ckpt", "iris_ova")


def test_a_file_of_weights_alone_is_tested_but_not_resumed(cli, refused, trained, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(without("loops", "optimizer_states")(torch.load(trained("iris_ova"), weights_only=True)), path)
    assert "lacks loops, optimizer_states" in refused("fit", path, "iris_ova")
    place = ("--trainer.default_root_dir", tmp_path, "--ckpt_path", path)
    cli("test", "--config", "configs/iris_ova.yaml", *QUIET, *place)
