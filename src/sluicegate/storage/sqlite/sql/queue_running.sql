-- Every job that a worker holds, with its latest progress.
SELECT
    job.id, job.fence, job.pool, job.tenant, job.tier, job.model, job.state, job.worker, job.cost, job.claimed_at,
    job.preemptible, job.preemptions, job.preempting, progress.report
FROM job LEFT JOIN progress ON progress.job = job.id
WHERE job.state IN ('running', 'canceling');
