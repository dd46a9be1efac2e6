"""What `import srec` costs beside `import dspy`: seconds and modules, each in fresh processes, in turn.

python evals/import_cost.py
"""

import statistics
import subprocess
import sys

RUNS = 9
PROGRAM = "import sys, time; t = time.perf_counter(); {}; print(time.perf_counter() - t, len(sys.modules))"
STATEMENTS = ("import srec", "import dspy", "import srec; srec.MLLMSRec")


def main() -> None:
    """Print median, range and modules of each statement."""
    seconds: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    modules: dict[str, int] = {}
    for _ in range(RUNS):
        for statement in STATEMENTS:
            command = [sys.executable, "-c", PROGRAM.format(statement)]
            taken, loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            seconds[statement].append(float(taken))
            modules[statement] = int(loaded)
    for statement, times in seconds.items():
        spread = f"{statistics.median(times):.3f} s (range {min(times):.3f} to {max(times):.3f}, n = {RUNS})"
        print(f"{statement:28} {spread}, {modules[statement]} modules loaded")


if __name__ == "__main__":
    main()
