"""All benchmarks on Big Buck Bunny: what `make bench` runs. Tables go to benchmarks/results-*.md."""

import subprocess
import sys

from benchmarks.footage import big_buck_bunny

film = str(big_buck_bunny())
subprocess.run([sys.executable, "-m", "benchmarks.split"], check=True)
subprocess.run([sys.executable, "benchmarks/cut.py", film], check=True)
