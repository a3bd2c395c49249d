"""The command line, made from the settings: one flag a knob, its help from the knob's description.

Precedence: flags, environment (CUTROOM_SPLIT_MAX_CLIP_S), --config file, defaults.
"""

import argparse
import difflib
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline import storage
from pipeline.errors import UserError, one_line

ENVIRONMENT_PREFIX = "CUTROOM_"
Settings = TypeVar("Settings", bound=BaseModel)
Path = tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    """Mistakes become a UserError: one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse(model: type[Settings], command: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of one command. Raises UserError for anything that is not right; exits after --help."""
    leaves = dict(_leaves(model))
    flags = {_flag(path): path for path in leaves}
    parser = _parser(model, command, leaves)
    given, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise UserError(f"unknown option {unknown[0]}{_suggestion(unknown[0].split('=')[0], flags)}")
    tree: dict[str, Any] = _config(given.config, model) if given.config else {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            path = _by_environment(name, leaves)
            _put(tree, path, _value(text, leaves[path], name))
    for flag, path in flags.items():
        if flag in given:
            _put(tree, path, _value(getattr(given, flag), leaves[path], flag))
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error)) from error


def _leaves(model: type[BaseModel], prefix: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name), field


def _flag(path: Path) -> str:
    return "--" + ".".join(path).replace("_", "-")


def _parser(model: type[BaseModel], command: str, leaves: Mapping[Path, FieldInfo]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"main.py {command}",
        usage=f"main.py {command} [--config FILE] [option ...]",
        description=model.__doc__,
        epilog=_epilog(leaves),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34, width=118),
    )
    parser.add_argument("--config", metavar="FILE", default=None, help="a YAML file with any of the options below")
    groups: dict[Path, Any] = {(): parser}
    for path, field in leaves.items():
        if path[:-1] not in groups:
            groups[path[:-1]] = parser.add_argument_group(".".join(path[:-1]), _group(model, path[:-1]).__doc__)
        options: dict[str, Any] = {"dest": _flag(path), "help": _help(field)}
        if field.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = _metavar(field)
            if get_origin(field.annotation) is list:
                options["action"] = "append"
        groups[path[:-1]].add_argument(_flag(path), **options)
    return parser


def _epilog(leaves: Mapping[Path, FieldInfo]) -> str:
    """How else an option can be given, with one of this command's own as the example."""
    path = max(leaves, key=len)
    in_file = ": {".join(path) + ": ..." + "}" * (len(path) - 1)
    return (
        f"Every option can also stand in a --config file (`{in_file}`) or in the environment\n"
        f"({ENVIRONMENT_PREFIX}{'_'.join(path).upper()}=...). Flags win over the environment, that over the file."
    )


def _group(model: type[BaseModel], path: Path) -> type[BaseModel]:
    for name in path:
        inner = model.model_fields[name].annotation
        assert isinstance(inner, type)
        model = inner
    return model


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if not field.is_required() and field.default is not False and field.default not in (None, [], {}):  # 0 == False
        shown = ", ".join(field.default) if isinstance(field.default, list) else field.default
        text += f" [{shown}]"
    return text.replace("%", "%%")


def _metavar(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    names = {int: "N", float: "X", str: "TEXT"}
    kinds = {kind, *get_args(kind)}
    return next((name for python, name in names.items() if python in kinds), "YAML")


def _value(given: Any, field: FieldInfo, where: str) -> Any:
    """Text as the field wants it; pydantic does the rest. Lists from the environment, and dicts, are YAML."""
    kind = get_origin(field.annotation)
    if isinstance(given, str) and kind in (list, dict):
        try:
            parsed = yaml.safe_load(given)
        except yaml.YAMLError as error:
            raise UserError(f"{where}: not valid YAML: {one_line(error, 1000)}") from error
        return [given] if kind is list and not isinstance(parsed, list) else parsed
    return given


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _by_environment(name: str, leaves: Mapping[Path, FieldInfo]) -> Path:
    names = {ENVIRONMENT_PREFIX + "_".join(path).upper(): path for path in leaves}
    if name not in names:
        raise UserError(f"unknown environment variable {name}{_suggestion(name, names)}")
    return names[name]


def _config(location: str, model: type[BaseModel]) -> dict[str, Any]:
    tree = storage.read_yaml(location, "--config") or {}
    if not isinstance(tree, dict):
        raise UserError(f"{location}: not a mapping of settings")
    _check_keys(tree, model, location, ())
    return tree


def _check_keys(tree: dict[str, Any], model: type[BaseModel], location: str, prefix: Path) -> None:
    """Refuse misspelt keys by name, with the nearest right one."""
    for key, value in tree.items():
        if key not in model.model_fields:
            known = {".".join((*prefix, name)): () for name in model.model_fields}
            raise UserError(f"{location}: unknown key {'.'.join((*prefix, str(key)))}{_suggestion(str(key), known)}")
        inner = model.model_fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(value, dict):
                raise UserError(f"{location}: {key} is a group of settings, not {value!r}")
            _check_keys(value, inner, location, (*prefix, key))


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else ": see --help"


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, by flag."""
    first = error.errors()[0]
    flag = _flag(tuple(str(part) for part in first["loc"] if isinstance(part, str)))
    if first["type"] == "missing":
        return f"{flag} is required: see --help"
    if "ctx" in first and first["type"] == "value_error":  # a check of our own, which says what it was given
        return f"{flag}: {first['ctx']['error']}"
    return f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}"


def run(
    jobs: Mapping[str, tuple[type[BaseModel], str]],
    arguments: Sequence[str],
    before_work: Callable[[], None] = lambda: None,
) -> int:
    """Choose the job, read its settings, run it; the exit code. A UserError is one line and 2.

    jobs: settings, and the module whose run(settings) does it; imported when all is read, because that takes seconds.
    before_work is called once it is imported.
    """
    listing = "\n".join(f"  {name:<10} {(model.__doc__ or '').strip()}" for name, (model, _) in jobs.items())
    usage = f"usage: main.py JOB [options]\n\njobs:\n{listing}\n\n`main.py JOB --help` shows a job's options."
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage)
            return 0 if arguments else 2
        if arguments[0] not in jobs:
            raise UserError(f"no job {arguments[0]!r}{_suggestion(arguments[0], jobs)}")
        model, module = jobs[arguments[0]]
        settings = parse(model, arguments[0], arguments[1:], os.environ)
        signal.signal(signal.SIGTERM, _interrupt)
        job = importlib.import_module(module)
        before_work()
        return job.run(settings)
    except UserError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        model, _ = jobs[arguments[0]]
        kept = "what is settled is kept; the same command again continues from there"
        print(f"\ninterrupted{f': {kept}' if getattr(model, 'continues', False) else ''}", file=sys.stderr)
        return 128 + number


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(number)


def set_native_chatter_aside() -> None:
    """Ray's core and the engines write to file descriptor 2 what no user can act on: from now on that goes to a file.

    Python's own stderr (progress, errors) stays where it was. To be called when Ray is imported: its loggers then hold
    the old stderr, and go to the file, too.
    """
    log = os.path.join(tempfile.gettempdir(), f"cutroom-native-{os.getuid()}.log")
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 2)
