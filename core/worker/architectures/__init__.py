"""Architectures that transformers does not carry, written here; each `register`s itself with the Auto classes."""
