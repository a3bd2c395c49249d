"""What a job's entrypoint needs and its working_dir, less `excludes` and .gitignore, does not bring to the cluster."""

from pathlib import Path
from typing import Any

from pathspec import PathSpec  # comes with anyscale, which reads these lists with it

from pipeline.deploy.files import Problems
from pipeline.deploy.preflight import named_models
from pipeline.settings import CurateSettings
from pipeline.sources.listing import GLOB_CHARACTERS


def check_upload(folder: str, name: str, content: dict[str, Any], settings: CurateSettings, config: str) -> Problems:
    """Files that are not there, and files that are left at home. config: the --config, as the entrypoint has it."""
    root = Path(folder, content.get("working_dir") or ".")
    if not (root / "main.py").is_file():
        return [f"{name}: working_dir: no main.py in {content.get('working_dir')}"]
    named = [path for path in (config, settings.annotate.module, *settings.input_list) if path]
    named += [path for path in settings.input if not GLOB_CHARACTERS & set(path)]
    models = [model for _, _, model in named_models(settings)]
    named += [model for model in models if model.startswith(("/", ".", "~")) or (root / model).is_dir()]
    local = [path for path in named if "://" not in path]
    gone = [path for path in local if path.startswith(("/", "~")) or not (root / path).exists()]
    code = [path.relative_to(root).as_posix() for path in sorted(root.glob("pipeline/**/*.py"))]
    left = _left_at_home(root, ["main.py", *code, *(path for path in local if path not in gone)], content)
    shown = f"{left[0]} and {len(left) - 1} more" if len(left) > 1 else "".join(left)
    found = [f"{name}: entrypoint: no {path} in what is uploaded" for path in gone]
    return [*found, f"{name}: excludes or .gitignore: {shown} would not be uploaded, and is needed"] if left else found


def _left_at_home(root: Path, needed: list[str], content: dict[str, Any]) -> list[str]:
    """Those that the upload leaves out: it reads both lists as git reads .gitignore."""
    ignored = root / ".gitignore"
    lines = [*(content.get("excludes") or ()), *(ignored.read_text().splitlines() if ignored.is_file() else ())]
    pattern = PathSpec.from_lines("gitignore", lines)
    return [path for path in needed if pattern.match_file(path)]
