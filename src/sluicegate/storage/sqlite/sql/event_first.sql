-- Write a new job's first event.
INSERT INTO job_event (job, seq, kind, at, data) VALUES (:job, 1, :kind, :now, :data);
