-- For each of the models that has jobs, the tenant unserved the longest, and since before a moment.
SELECT lane.tenant_since, lane.tenant
FROM json_each(:models) AS served CROSS JOIN lane
WHERE lane.pool = :pool AND lane.model = served.value AND lane.tenant = (
    SELECT first.tenant FROM lane AS first
    WHERE first.pool = :pool AND first.model = served.value AND first.ready = 1 AND first.tenant_since <= :before
    ORDER BY first.tenant_since, first.tenant
    LIMIT 1
);
