"""Figures, side by side with a peer or the bare library, in one run. `make bench` prints them all."""
