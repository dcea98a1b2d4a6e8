"""Command that writes a project of one's own: the core, chosen capabilities, and a made-up table to replace."""

import argparse
import json
import re
import sys
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "cli/templates"
PARTS: dict[str, Any] = yaml.safe_load((ROOT / "cli/capabilities.yaml").read_text(encoding="utf-8"))
OWNERS = {path: set(owner.split(" and ")) for owner, paths in PARTS["files"].items() for path in paths}


def owners(path: str) -> set[str]:
    """The parts that a file needs: those of the longest path in the list that is the file or a folder above it."""
    while path not in OWNERS and "/" in path:
        path = path.rpartition("/")[0]
    return OWNERS.get(path, set())


def with_needs(chosen: set[str]) -> set[str]:
    """Capabilities and all that they bring along."""
    more = chosen.union(*(PARTS["needs"].get(name, []) for name in chosen))
    return chosen if more == chosen else with_needs(more)


def sources_of(chosen: set[str]) -> dict[str, Path]:
    """The files of chosen parts, and the templates, by their paths in the new project."""
    files = [file for path in OWNERS for file in [ROOT / path, *(ROOT / path).rglob("*")]]
    names = {file.relative_to(ROOT).as_posix(): file for file in files}
    sources = {name: file for name, file in names.items() if owners(name) <= chosen}
    for file in TEMPLATES.rglob("*"):
        if owners(file.relative_to(ROOT).as_posix()) <= {"this project", *chosen}:
            sources[file.relative_to(TEMPLATES).as_posix()] = file
    return {name: file for name, file in sources.items() if file.is_file() and "__pycache__" not in file.parts}


def write_project(folder: Path, capabilities: Collection[str]) -> None:
    """Write the core, capabilities and templates into a folder, without a trace of the rest."""
    chosen = with_needs({"core", *capabilities})
    absent = "|".join(words for part, words in PARTS["traces"].items() if part not in chosen)
    sources, package = sources_of(chosen), package_of(folder)
    for name, source in sources.items():
        target = folder / name.replace("made_up", package)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        if source.suffix != ".png":
            text = content.decode("utf-8")
            if name == "pyproject.toml":
                text = adapted_settings(text, absent, chosen, sources)
            elif source.suffix == ".md":
                text = re.sub(r"\bflowers(?=/|\.\w)", "made_up", "".join(kept_blocks(text, absent, sources)))
            elif owners(name) == {"core"} or name.startswith("configs/"):
                text = adapted_source(text, absent, sources)
            text = text.replace("lightning-logistic-regression", package.replace("_", "-"))
            content = text.replace("made_up", package).encode("utf-8")
        target.write_bytes(content)
        target.chmod(source.stat().st_mode)


def adapted_source(text: str, absent: str, files: Collection[str]) -> str:
    """Source of the core, or a config: what is absent leaves its lists, the new config stands in its examples."""
    text = re.sub(r"configs/iris_\w+\.yaml", lambda path: path[0] if path[0] in files else "configs/made_up.yaml", text)
    item, comment, callback = (
        rf'    (?=[("]).*({absent}).*,',
        rf"#.*({absent}).*",
        rf"    - class_path: ({absent}).*(\n {{6}}.*)*",
    )
    text = re.sub(rf"^({item}|{comment}|{callback})\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^  callbacks:\n(?!    )", "", text, flags=re.MULTILINE)
    if re.search(absent, "article"):
        text = re.sub(r"Two articles teach .*?\n\n", "", text, flags=re.DOTALL)
        text = re.sub(r" \(article [12][^)]*\)", "", text)
    return text


def kept_blocks(text: str, absent: str, files: Collection[str]) -> Iterator[str]:
    """Paragraphs, code, table rows and list items of Markdown that name nothing absent, and the headings above them."""
    code, row_or_item, paragraph = r"^```.*?^```\n+", r"^(?:\||- )[^\n]*\n(?:  [^\n]*\n)*\n*", r"^.+?(?:\n\n+|\Z)"
    blocks = re.findall(f"{code}|{row_or_item}|{paragraph}", text, re.DOTALL | re.MULTILINE)

    def is_kept(block: str) -> bool:
        paths = [path for word in re.findall(r"[\w./]+\.\w+", block) for path in (word, f"docs/{word}")]
        return not re.search(absent, block) and all(path in files or not (ROOT / path).is_file() for path in paths)

    kept = [block for block in blocks if is_kept(block)]
    for block, after in zip(kept, [*kept[1:], "# "], strict=True):
        if not (block.startswith("## ") and after.startswith(("# ", "## "))):
            yield block


def adapted_settings(text: str, absent: str, chosen: set[str], files: Collection[str]) -> str:
    """The name, requirements and folders of pyproject.toml."""
    used = {name for part in chosen for name in PARTS["requirements"].get(part, [])}
    unused = set().union(*PARTS["requirements"].values()) - used
    folders = {file.split("/")[0].removesuffix(".py") for file in files}

    def those_there(line: re.Match[str]) -> str:
        names = [name for name in re.findall(r'"(\w+)"', line[2]) if name in folders]
        return f"{line[1]} = {json.dumps([*names, 'made_up'])}"

    for name in unused:
        text = re.sub(rf'^(    "{name}\b.*|{name} = \[[^]]*\].*)\n', "", text, flags=re.MULTILINE)
        text = re.sub(rf'(?<=[\[,]){name}(,|(?=]"))', "", text)
    text = re.sub(r',?]"', ']"', text).replace('    "lightning-logistic-regression[]",\n', "")
    text = re.sub(r'(?<=\ndescription = ").*(?=")', "made_up", text)
    text = re.sub(r'^(known-first-party|packages|testpaths) = (\[".*\])', those_there, text, flags=re.MULTILINE)
    return re.sub(rf"^.*({absent}).*\n", "", text, flags=re.MULTILINE)


def package_of(folder: Path) -> str:
    """The name of the folder as that of a package."""
    return re.sub(r"\W", "_", folder.name).lower()


def main() -> None:
    """Read the command line and write the project, or refuse in one line."""
    lines = [f"  {name:<12}{text}" for name, text in PARTS["about"].items()]
    parser = argparse.ArgumentParser(
        prog="python -m cli.new",
        description="\n".join([str(__doc__), "", "capabilities, which bring along what they need:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of the new project, which takes its name; new or empty")
    parser.add_argument("--with", dest="chosen", default="", metavar="A,B,...", help="capabilities beside the core")
    options = parser.parse_args()
    folder, chosen = options.folder.resolve(), set(filter(None, options.chosen.split(",")))
    package = package_of(folder)
    if unknown := sorted(chosen - set(PARTS["about"])):
        sys.exit(f"error: --with: expected some of {', '.join(PARTS['about'])}, got {', '.join(unknown)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"error: {folder} is there and not empty: name a new folder")
    if not package.isidentifier() or iskeyword(package) or find_spec(package):
        sys.exit(f"error: {package} is no name for a new Python package, or that of another: name the folder otherwise")
    write_project(folder, chosen)
    print(f"{folder} is ready; its README.md has the first commands")


if __name__ == "__main__":
    main()
