#!/usr/bin/env python3
"""Arguments -> settings -> one job."""

import sys

from pipeline import cli
from pipeline.jobs import JOBS

if __name__ == "__main__":
    sys.exit(cli.run(JOBS, sys.argv[1:], before_work=cli.set_native_chatter_aside))
