-- For each of the models that has jobs, the tenant of the least tag among those that have them.
SELECT lane.model, lane.vtime, lane.tenant
FROM json_each(:models) AS served CROSS JOIN lane
WHERE lane.pool = :pool AND lane.model = served.value AND lane.tenant = (
    SELECT first.tenant FROM lane AS first
    WHERE first.pool = :pool AND first.model = served.value AND first.ready = 1
    ORDER BY first.vtime, first.tenant
    LIMIT 1
);
