"""`python -m trivd`, as `torchrun -m trivd` needs it."""

from trivd.cli import main

main()
