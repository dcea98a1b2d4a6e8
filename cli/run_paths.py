"""Paths of runs and checkpoints: pure functions of the options and of the files on the disk."""

from pathlib import Path

from jsonargparse import Namespace

from callbacks.run.requeue import UNFINISHED, slurm_job, torchrun_job
from checkpoint_file import load_checkpoint
from cli.run_directory import RunDirectory


def choose_run(
    subcommand: str, base: Path, named: bool, ckpt_path: str | None, writes: bool, unfinished: Path | None = None
) -> RunDirectory:
    """The checkpoint's own run if it is resumed or evaluated, else a new one.

    Args:
        subcommand: "fit", "validate", "test" or "predict".
        base: see `base_directory`.
        named: whether the user named it.
        ckpt_path: --ckpt_path.
        writes: whether this process writes files; a dry run and all but the first of several processes do not.
        unfinished: a run to begin again from its start, as it had saved nothing.
    """
    if unfinished is not None and writes:
        return RunDirectory(unfinished, is_new=True)
    if ckpt_path:
        run = run_of(Path(ckpt_path))
        if subcommand != "fit":
            return RunDirectory(base if named else run)
        resumes = Path(ckpt_path).name == "last.ckpt" and (run / "checkpoints" / "last.ckpt").is_file()
        if resumes and (not named or base.resolve() in (run.resolve(), *run.resolve().parents, run.parent.resolve())):
            return RunDirectory(run)
    return RunDirectory.claim(base, named) if writes else RunDirectory(base)


def run_of(checkpoint: Path) -> Path:
    """The run directory that a checkpoint belongs to; its folder `checkpoints` may be a link to another disk."""
    folders = checkpoint.absolute().parent, checkpoint.resolve().parent
    given, resolved = (folder.parent if folder.name == "checkpoints" else folder for folder in folders)
    if (given / "config.yaml").is_file():
        return given
    return given if folders[0].name == "checkpoints" and not (resolved / "config.yaml").is_file() else resolved


def config_file(options: Namespace) -> Path | None:
    """The first --config of a command line."""
    files = options.get("config") or []
    return Path(str(files[0])) if files else None


def base_directory(config: Path | None, named: str | None) -> Path:
    """Where the runs of a configuration go; `named` is --trainer.default_root_dir.

    Raises:
        ValueError: an address instead of a folder.
    """
    if named:
        if "://" in named:
            raise ValueError(f"trainer.default_root_dir: expected a folder on this machine, got {named}")
        return Path(named).expanduser()
    config = config or Path("run.yaml")
    if (config.parent / "checkpoints").is_dir():  # a run's own config.yaml: its runs go beside it
        run = config.parent
        return run.parent if run.name.startswith("version_") else run
    return Path("runs") / config.stem


def newest_checkpoint(base: Path, name: str, config: Path | None = None) -> Path:
    """The checkpoint "best" or "last" of the run of the highest version, and of several such runs the highest step.

    A run's own config.yaml means that run.

    Raises:
        ValueError: there is none.
    """
    if config is not None and (own := config.parent / "checkpoints" / f"{name}.ckpt").is_file():
        return own
    found = {*base.glob(f"**/checkpoints/{name}.ckpt"), *base.glob(f"*/checkpoints/{name}.ckpt")}  # ** follows no link
    if not found:
        raise ValueError(f"--ckpt_path {name}: no {name}.ckpt below {base}; run fit first, or name a checkpoint file")
    highest = max(map(_versions, found))
    newest = sorted(path for path in found if _versions(path) == highest)
    return newest[0] if len(newest) == 1 else max(newest, key=lambda path: load_checkpoint(path).get("global_step", 0))


def _versions(path: Path) -> list[int]:
    """The numbers of the folders version_N that a path goes through; file times would be those of a copy."""
    names = [part.removeprefix("version_") for part in path.parts if part.startswith("version_")]
    return [int(name) for name in names if name.isdigit()]


def unfinished_run(base: Path, command: str) -> Path | None:
    """The run that this very command, all options of which count, began before its job was started again."""
    wanted = {f"{job}\n{command}" for job in (slurm_job(), torchrun_job()) if job}
    markers = base.glob(f"**/{UNFINISHED}") if wanted else ()
    return next((marker.parent for marker in markers if marker.read_text(encoding="utf-8") in wanted), None)
