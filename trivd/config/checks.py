"""Checks of settings, which name the setting and the way out."""

from collections.abc import Collection
from typing import Literal, get_args, get_origin, get_type_hints

from trivd.runtime.errors import TrivdError


def require(condition: bool, message: str) -> None:
    if not condition:
        raise TrivdError(message)


def at_least(least: int, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value >= least, f"{section}.{name} is {value}; it must be at least {least}.")


def at_most(most: int, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value <= most, f"{section}.{name} is {value}; it must be at most {most}.")


def one_of(choices: Collection[object], section: str, settings: object, name: str) -> None:
    value, (*others, last) = getattr(settings, name), map(str, choices)
    require(value in choices, f"{section}.{name} is {value}; choose {', '.join(others)} or {last}.")


def check_literals(section: str, settings: object) -> None:
    """Check that each setting of a Literal type is one of its values, however the configuration was made."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            one_of(get_args(kind), section, settings, name)
