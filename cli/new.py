"""Command that writes a project of one's own: the core, chosen capabilities, and a made-up table to replace."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "cli/templates"
PARTS: dict[str, Any] = yaml.safe_load((ROOT / "cli/capabilities.yaml").read_text(encoding="utf-8"))
OWNERS = {path: owner.split() for owner, paths in PARTS["files"].items() for path in paths}
NEVER_COPIED = {"__pycache__", ".ipynb_checkpoints"}
FIRST_CONFIG = re.compile(
    r"configs/iris_(binary|ova)\.yaml"
)  # of examples in the core, which any config could stand in


def owners(path: str) -> list[str]:
    """The capabilities that a file needs: those of the longest path in the list that is the file or a folder above."""
    while path not in OWNERS and "/" in path:
        path = path.rpartition("/")[0]
    return OWNERS.get(path, ["this project"])


def with_needs(chosen: set[str]) -> set[str]:
    """Capabilities and all that they bring along."""
    more = chosen.union(*(PARTS["needs"].get(name, []) for name in chosen))
    return chosen if more == chosen else with_needs(more)


def files_of(chosen: set[str]) -> Iterator[str]:
    """The files of the core and of capabilities, by their paths in this project."""
    for path in sorted(OWNERS):
        for file in [ROOT / path, *(ROOT / path).rglob("*")]:
            name = file.relative_to(ROOT).as_posix()
            if file.is_file() and not NEVER_COPIED & set(file.parts) and set(owners(name)) <= chosen | {"core"}:
                yield name


def write_project(folder: Path, chosen: set[str]) -> None:
    """Write the core, the capabilities and the templates into a folder, without a trace of the rest."""
    chosen = with_needs(chosen)
    names = dict.fromkeys(files_of(chosen))
    templates = [path.relative_to(TEMPLATES) for path in TEMPLATES.rglob("*") if path.is_file()]
    sources = {name: ROOT / name for name in names}
    sources |= {path.as_posix(): TEMPLATES / path for path in templates if not NEVER_COPIED & set(path.parts)}
    package = package_name(folder)
    renamed = {name: name.replace("made_up", package) for name in sources}
    for name, source in sources.items():
        target = folder / renamed[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        if source.suffix != ".png":
            text = adapted(name, content.decode("utf-8"), chosen, set(sources))
            text = text.replace("lightning-logistic-regression", folder.name).replace("made_up", package)
            content = text.encode("utf-8")
        target.write_bytes(content)
        target.chmod(source.stat().st_mode)


def adapted(name: str, text: str, chosen: set[str], files: set[str]) -> str:
    """A file's text without what is not in the new project."""
    absent = "|".join(words for part, words in PARTS["traces"].items() if part not in chosen)
    if name == "pyproject.toml":
        return adapted_settings(text, absent, chosen, files)
    if name.endswith(".md"):
        return "".join(kept_blocks(text, absent))
    if name.endswith(("__init__.py", "cli/capabilities.py")):  # tables of names that are imported on first use
        folder = "" if name.startswith("cli/") else f"{name.split('/')[0]}/"
        text = re.sub(
            r'^ {4}\(?"\w+"[:,] "([\w.]+)"\)?,\n',
            lambda line: line[0] if is_there(folder + line[1].replace(".", "/"), files) else "",
            text,
            flags=re.MULTILINE,
        )
    if owners(name) == ["core"]:
        text = FIRST_CONFIG.sub("configs/made_up.yaml", text)
        if "linear" not in chosen:
            text = re.sub(r"Two articles teach .*?\n\n", "", text, flags=re.DOTALL)
            text = re.sub(r" \(article [12][^)]*\)", "", text)
    return text


def is_there(path: str, files: set[str]) -> bool:
    """Whether a module, or a name in it, belongs to the new project."""
    return f"{path}.py" in files or f"{path.rpartition('/')[0]}.py" in files


def kept_blocks(text: str, absent: str) -> Iterator[str]:
    """Paragraphs, code, table rows and list items of Markdown that name nothing absent, and the headings above them."""
    blocks = re.findall(
        r"^```.*?^```\n+|^(?:\||[-*] )[^\n]*\n(?:  [^\n]*\n)*\n*|^.+?(?:\n\n+|\Z)", text, re.DOTALL | re.M
    )
    left = [block for block in blocks if not re.search(absent, block)]
    for block, after in zip(left, [*left[1:], "# "], strict=True):
        if not (block.startswith("## ") and after.startswith(("# ", "## "))):
            yield block


def adapted_settings(text: str, absent: str, chosen: set[str], files: set[str]) -> str:
    """The name, dependencies, extras and folders of pyproject.toml."""

    def those_there(line: re.Match[str]) -> str:
        names = [name for name in re.findall(r'"(\w+)"', line[2] + '"made_up"') if name in folders]
        return f"{line[1]} = {json.dumps(names)}"

    folders = {file.split("/")[0].removesuffix(".py") for file in files}
    used = {
        kind: {name for part in chosen for name in PARTS[kind].get(part, [])} for kind in ("dependencies", "extras")
    }
    unused = {kind: set().union(*PARTS[kind].values()) - names for kind, names in used.items()}
    for package in unused["dependencies"]:
        text = re.sub(rf'^    "{package}\b.*\n', "", text, flags=re.MULTILINE)
    for extra in unused["extras"]:
        text = re.sub(rf"^{extra} = \[[^]]*\].*\n", "", text, flags=re.MULTILINE)
    own = f"[{','.join(sorted(used['extras'] - {'bench'}))}]"
    text = re.sub(r"(?<=lightning-logistic-regression)\[.*?\]", own, text).replace(
        '    "lightning-logistic-regression[]",\n', ""
    )
    text = re.sub(r'(?<=\ndescription = ").*(?=")', "made_up", text)
    text = re.sub(r'^(known-first-party|packages|testpaths) = (\[".*\])', those_there, text, flags=re.MULTILINE)
    return re.sub(rf"^.*({absent}).*\n", "", text, flags=re.MULTILINE)


def package_name(folder: Path) -> str:
    """The name of the folder as that of a package."""
    return re.sub(r"\W", "_", folder.name).lower()


def main() -> None:
    """Read the command line and write the project, or refuse in one line."""
    about = "\n".join(f"  {name:<10} {text}" for name, text in PARTS["about"].items())
    parser = argparse.ArgumentParser(
        prog="python -m cli.new",
        description=f"{__doc__}\n\ncapabilities:\n{about}\n\nOne brings along what it needs: {PARTS['needs']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of the new project, which takes its name; new or empty")
    parser.add_argument("--with", dest="chosen", default="", metavar="A,B,...", help="capabilities beside the core")
    options = parser.parse_args()
    folder, chosen = options.folder.resolve(), set(filter(None, options.chosen.split(",")))
    package = package_name(folder)
    if unknown := sorted(chosen - set(PARTS["about"])):
        sys.exit(f"error: --with: no capability {', '.join(unknown)}; there are {', '.join(PARTS['about'])}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"error: {folder} exists and is not empty; name a new folder")
    if not package.isidentifier() or iskeyword(package) or find_spec(package):
        sys.exit(f"error: {package} cannot name the package of your code, or is one already; name another folder")
    write_project(folder, chosen)
    print(f"{folder} is ready; its README.md begins with: make install")


if __name__ == "__main__":
    main()
