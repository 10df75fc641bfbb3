-- How much dearer than estimated each model's jobs have been of late.
SELECT model, task, kappa FROM calibration;
