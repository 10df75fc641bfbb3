-- The least tag of the tenants that are ready, one excepted.
SELECT vtime FROM lane
WHERE pool = :pool AND ready = 1 AND tenant <> :besides
ORDER BY vtime, tenant
LIMIT 1;
