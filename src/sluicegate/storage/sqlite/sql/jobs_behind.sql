-- How many of a tenant's queued jobs come after one of them, counted up to a limit.
SELECT count(*) AS jobs FROM (
    SELECT 1 FROM lane CROSS JOIN job
    WHERE lane.pool = :pool AND lane.tenant = :tenant AND job.pool = :pool AND job.tenant = :tenant
        AND job.model = lane.model AND job.state = 'queued' AND job.priority < :priority
    UNION ALL
    SELECT 1 FROM lane CROSS JOIN job
    WHERE lane.pool = :pool AND lane.tenant = :tenant AND job.pool = :pool AND job.tenant = :tenant
        AND job.model = lane.model AND job.state = 'queued' AND job.priority = :priority AND job.id > :id
    LIMIT :limit
);
