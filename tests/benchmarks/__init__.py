"""The design's section 8, measured: `python -m tests.benchmarks`. Speed is shown here, not asserted."""
