-- Write a job's next event.
INSERT INTO job_event (job, seq, kind, at, data)
SELECT :job, coalesce(max(seq), 0) + 1, :kind, :now, :data FROM job_event WHERE job = :job;
