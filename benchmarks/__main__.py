"""All benchmarks, on Big Buck Bunny and what is made of it: what `make bench` runs. About 40 minutes on two cores.

    python -m benchmarks [--only NAME ...]

Fetches the film, makes the variants once, and writes benchmarks/results.md, line by line as they are measured.
"""

import argparse
from pathlib import Path

from benchmarks import cut, split
from benchmarks.machine import describe

RESULTS = Path(__file__).with_name("results.md")
HEAD = f"""# Benchmarks

{describe()}. Shared machine: compare ratios, not seconds.
Made by `make bench`; the docstrings of benchmarks/split.py and benchmarks/cut.py say what is measured and how.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="tables whose name contains one of these")
    asked = parser.parse_args().only
    lines = [HEAD]
    tables = {**split.tables(), **cut.tables()}
    for name, rows in tables.items():
        if any(part in name for part in asked):
            for row in rows():
                print(row, flush=True)
                lines.append(row)
                RESULTS.write_text("\n".join(lines) + "\n")
            lines.append("")


if __name__ == "__main__":
    main()
