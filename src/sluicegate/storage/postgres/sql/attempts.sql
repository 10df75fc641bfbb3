-- Every attempt at a job, first to last: job.
SELECT number, worker, started_at, ended_at, outcome, error FROM attempt
WHERE job = $1
ORDER BY fence;
