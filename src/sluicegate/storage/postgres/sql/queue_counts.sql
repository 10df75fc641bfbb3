-- Jobs that have not ended, by pool, tier, model and state.
SELECT * FROM (
    SELECT lane.pool, tenant.tier, lane.model, 'queued' AS state, sum(lane.queued)::bigint AS jobs
    FROM lane JOIN tenant ON tenant.pool = lane.pool AND tenant.tenant = lane.tenant
    GROUP BY lane.pool, tenant.tier, lane.model
    UNION ALL
    SELECT job.pool, tenant.tier, job.model, job.state, count(*) AS jobs
    FROM job JOIN tenant ON tenant.pool = job.pool AND tenant.tenant = job.tenant
    WHERE job.state IN ('running', 'canceling')
    GROUP BY job.pool, tenant.tier, job.model, job.state
    UNION ALL
    SELECT job.pool, tenant.tier, job.model, job.state, count(*) AS jobs
    FROM job JOIN tenant ON tenant.pool = job.pool AND tenant.tenant = job.tenant
    WHERE job.state = 'scheduled'
    GROUP BY job.pool, tenant.tier, job.model, job.state
) AS counted
ORDER BY pool, tier, model, state COLLATE "C";
