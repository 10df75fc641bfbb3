-- A tenant's jobs in some states before the cursor, newest first: tenant, cursor, states, limit.
SELECT job.*, progress.report,
    CASE WHEN job.state = 'queued' THEN place_of(job.pool, job.tenant, job.priority, job.id) END AS jobs_ahead
FROM (
    SELECT head.id FROM unnest($3::text[]) AS named (state) CROSS JOIN LATERAL (
        SELECT job.id FROM job WHERE job.tenant = $1 AND job.state = named.state AND job.id < $2
        ORDER BY job.id DESC LIMIT $4
    ) AS head
    ORDER BY head.id DESC LIMIT $4
) AS page JOIN job ON job.id = page.id LEFT JOIN progress
    ON progress.job = job.id AND progress.fence = job.fence AND job.lease_until IS NOT NULL
ORDER BY job.id DESC;
