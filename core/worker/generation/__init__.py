"""Generation inside a model's process: one scheduler, one sampler, over the small interface of `base.py`."""
