"""Which directory a command works in: pure functions of the options and of what is on the disk."""

from pathlib import Path

from jsonargparse import Namespace

from callbacks.run.stopping import REQUEUED, slurm_job
from cli.run_directory import RunDirectory


def choose_run(subcommand: str, base: Path, named: bool, ckpt_path: str | None, writes: bool) -> RunDirectory:
    """The checkpoint's own run if it is resumed or evaluated, else a new one.

    Args:
        subcommand: "fit", "validate", "test" or "predict".
        base: see `base_directory`.
        named: whether the user named it.
        ckpt_path: --ckpt_path, a local path or a URL.
        writes: whether this process writes files; a dry run and all but the first of several processes do not.
    """
    if ckpt_path and "://" not in ckpt_path:
        run = run_of(Path(ckpt_path))
        if subcommand != "fit":
            return RunDirectory(base if named else run)
        resumes = Path(ckpt_path).name == "last.ckpt" and (run / "config.yaml").is_file()
        if resumes and (not named or base.resolve() in (run, run.parent)):
            return RunDirectory(run)
    return RunDirectory.claim(base, named) if writes else RunDirectory(base)


def run_of(checkpoint: Path) -> Path:
    """The run directory that a checkpoint belongs to."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def config_file(options: Namespace) -> Path | None:
    """The first --config of a command line."""
    files = options.get("config") or []
    return Path(str(files[0])) if files else None


def base_directory(config: Path | None, named: str | None) -> Path:
    """Where the runs of a configuration go.

    Args:
        config: the first --config.
        named: --trainer.default_root_dir.

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
    """The newest checkpoint "best" or "last" among the runs of a configuration; a run's own config.yaml means that run.

    Raises:
        ValueError: there is none.
    """
    if config is not None and (own := config.parent / "checkpoints" / f"{name}.ckpt").is_file():
        return own
    found = sorted(base.glob(f"**/checkpoints/{name}.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(f"--ckpt_path {name}: no {name}.ckpt below {base}; run fit first, or name a checkpoint file")
    return found[-1]


def requeued_checkpoint(base: Path) -> Path | None:
    """Where the run goes on that SLURM stopped and whose job it has now started again; None if this is no such job."""
    job = slurm_job()
    for marker in base.glob(f"**/{REQUEUED}") if job else ():
        if marker.read_text(encoding="utf-8") == job:
            return marker.parent / "checkpoints" / "last.ckpt"
    return None
