"""Settings of a run that are named on the command line: `--set training.steps=20 evaluation.clips=40`."""

import json
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

from trivd.config import Changes, Config
from trivd.runtime.errors import TrivdError

BOOLEANS = {"true": True, "false": False}


def parse_settings(words: Sequence[str]) -> Changes:
    """Settings by section, from SECTION.NAME=VALUE each; values are JSON, none, or plain text.

    Raises:
        TrivdError: a word has another form, or there is no such setting.
    """
    changes: dict[str, dict[str, Any]] = {}
    sections = get_type_hints(Config)
    for word in words:
        key, equals, value = word.partition("=")
        section, dot, name = key.replace("-", "_").partition(".")
        if not (equals and dot):
            raise TrivdError(f"--set {word} is not of the form SECTION.NAME=VALUE, such as training.steps=1000.")
        known = get_type_hints(sections[section]) if section in sections else {}
        if name not in known:
            raise TrivdError(f"There is no setting {key}; trivd train --help lists them.")
        changes.setdefault(section, {})[name] = _value(value, known[name])
    return changes


def _value(text: str, kind: Any) -> Any:
    if text.lower() == "none" and type(None) in get_args(kind):  # it is also a name, of evaluation.features
        return None
    if kind is bool:
        return BOOLEANS.get(text.lower(), text)
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if float in (kind, *get_args(kind)) and isinstance(value, int):
        return float(value)
    return value
