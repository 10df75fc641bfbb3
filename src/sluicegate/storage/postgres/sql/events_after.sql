-- A job's events after a sequence number, in order: job, number.
SELECT job, seq, kind, at, data FROM job_event
WHERE job = $1 AND seq > $2
ORDER BY seq;
