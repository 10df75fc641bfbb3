-- Every tenant that has jobs which have not ended, by pool.
SELECT
    pool, tenant, tier, weight, max_running, vtime, queued, queued_cost, delayed, running, since,
    CASE WHEN queued > 0 THEN (
        SELECT job.created_at FROM job
        WHERE job.tenant = tenant.tenant AND job.state = 'queued' AND job.pool = tenant.pool
        ORDER BY job.id
        LIMIT 1
    ) END AS oldest_at
FROM tenant
WHERE queued + delayed + running > 0
ORDER BY pool, tenant;
