-- Keep how much dearer than estimated a model's jobs of one task have been of late.
INSERT INTO calibration (model, task, kappa, jobs) VALUES (:model, :task, :kappa, 1)
ON CONFLICT (model, task) DO UPDATE SET kappa = excluded.kappa, jobs = jobs + 1;
