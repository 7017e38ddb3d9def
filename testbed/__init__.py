"""The world around the bridge, for demo, tests and benchmarks: programs that nobody here wrote."""
