"""Talking with a model: prompt templates, conversations that outlive a restart, and the reply pipeline."""
