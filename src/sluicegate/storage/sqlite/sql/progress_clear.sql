-- Forget a job's progress when its attempt is over.
DELETE FROM progress WHERE job = :job;
