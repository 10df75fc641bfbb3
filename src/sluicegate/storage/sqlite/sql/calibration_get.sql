-- How much dearer than estimated a model's jobs of one task have been of late.
SELECT kappa FROM calibration WHERE model = :model AND task = :task;
