"""The command line of what runs pipelines."""

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Ends with status 1 on wrong usage, because 2 tells that a model was blocked."""

    def error(self, message: str) -> NoReturn:
        """Prints usage and error, and exits."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")
