"""Reading what a gluonnlp-era KoBERT classifier left behind, and writing it as a normal model directory."""
