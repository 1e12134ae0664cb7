"""How fast the program is, beside something that anybody can run: `python -m tests.benchmarks`. Nothing is asserted."""
