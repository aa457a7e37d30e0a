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
    chosen_from(choices, f"{section}.{name}", getattr(settings, name))


def chosen_from(choices: Collection[object], name: str, value: object) -> None:
    *others, last = map(str, choices)
    require(value in choices, f"{name} is {value}; choose {', '.join(others)} or {last}.")


def check_literals(section: str, settings: object) -> None:
    """Check that each setting of a Literal type is one of its values, and that each item of one of several is."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            one_of(get_args(kind), section, settings, name)
        elif get_origin(kind) is tuple and get_origin(item := get_args(kind)[0]) is Literal:
            for value in getattr(settings, name):
                chosen_from(get_args(item), f"{section}.{name}", value)
