"""Hypothesis profiles: `mutants` stops at the first failure, without looking for the smallest."""

from hypothesis import Phase, settings

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), deadline=None, database=None)
