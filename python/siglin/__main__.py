"""Run the lecture's examples: ``python -m siglin``."""

import sys

from siglin.lecture.command import main

if __name__ == "__main__":
    sys.exit(main())
