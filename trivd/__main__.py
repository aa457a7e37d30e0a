"""`python -m trivd`, as `torchrun -m trivd` needs it."""

from trivd.commands.main import main

main()
