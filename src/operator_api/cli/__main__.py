"""``python -m operator_api.cli``."""

from operator_api.cli.program import main

main()
