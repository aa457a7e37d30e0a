"""`trivd presets`: the list of presets."""

from dataclasses import dataclass

from rich.console import Console

from trivd.commands.status import DONE
from trivd.presets import PRESETS
from trivd.runtime.console import show_table


@dataclass(frozen=True)
class Presets:
    """List the presets."""

    def run(self, console: Console) -> int:
        show_table(console, ("preset", "what for"), [(name, described.about) for name, described in PRESETS.items()])
        return DONE
