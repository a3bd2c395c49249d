"""What a job's entrypoint needs and its working_dir, less `excludes` and .gitignore, does not bring to the cluster."""

from pathlib import Path
from typing import Any

from pathspec import PathSpec  # comes with anyscale, which reads these lists with it

from pipeline.deploy.files import Problems
from pipeline.settings import CurateSettings


def check_upload(folder: str, name: str, content: dict[str, Any], settings: CurateSettings, config: str) -> Problems:
    """Files that are not there, and files that are left at home. config: the --config, as the entrypoint has it."""
    root = Path(folder)
    lists = [path for path in (*settings.input_list, *settings.input) if "://" not in path]
    named = [path for path in (config, settings.annotate.module, *lists) if path and "://" not in path]
    gone = [path for path in named if not (root / path).exists()]
    code = [path.relative_to(root).as_posix() for path in sorted(root.glob("pipeline/**/*.py"))]
    needed = ["main.py", *code, *(path for path in named if path not in gone)]
    left = _left_at_home(root, needed, content.get("excludes") or [])
    shown = f"{left[0]} and {len(left) - 1} more" if len(left) > 1 else "".join(left)
    found = [f"{name}: entrypoint: no {path} in {folder}" for path in gone]
    return [*found, f"{name}: excludes or .gitignore: {shown} would not be uploaded, and is needed"] if left else found


def _left_at_home(root: Path, needed: list[str], excludes: list[str]) -> list[str]:
    """Those that the upload leaves out: it reads both lists as git reads .gitignore."""
    ignored = root / ".gitignore"
    lines = [*excludes, *(ignored.read_text().splitlines() if ignored.is_file() else ())]
    pattern = PathSpec.from_lines("gitignore", lines)
    return [path for path in needed if pattern.match_file(path)]
