-- How many jobs of one model wait above a priority, and at it.
SELECT
    coalesce(sum(jobs) FILTER (WHERE priority > :priority), 0) AS above,
    coalesce(sum(jobs) FILTER (WHERE priority = :priority), 0) AS level
FROM queue_count
WHERE model = :model AND state = 'queued' AND priority >= :priority;
