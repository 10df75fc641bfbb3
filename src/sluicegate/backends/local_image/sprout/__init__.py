"""Sprout, our own small model that draws things from their names: `words` reads the prompt, `model` draws.

The weights beside them were made by `training/` in the repository; the model card is docs/models/sprout.md.
"""
