"""One front door for generative models."""
