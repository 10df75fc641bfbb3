-- One job of a tenant, with its latest progress and its place: job, tenant.
SELECT job.*, progress.report,
    CASE WHEN job.state = 'queued' THEN place_of(job.pool, job.tenant, job.priority, job.id) END AS jobs_ahead
FROM job LEFT JOIN progress
    ON progress.job = job.id AND progress.fence = job.fence AND job.lease_until IS NOT NULL
WHERE job.id = $1 AND job.tenant = $2;
