-- A job's events after a sequence number, in order.
SELECT job, seq, kind, at, data FROM job_event
WHERE job = :job AND seq > :after
ORDER BY seq;
