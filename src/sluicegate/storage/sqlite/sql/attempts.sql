-- Every attempt at a job, first to last.
SELECT number, worker, started_at, ended_at, outcome, error FROM attempt
WHERE job = :job
ORDER BY fence;
