"""Real implementations for the tests: a Hub that speaks HTTP, a runtime in a real worker process."""
