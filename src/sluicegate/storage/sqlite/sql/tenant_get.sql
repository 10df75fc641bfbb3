-- One tenant's standing in a pool.
SELECT tier, weight, max_running, vtime, since, queued, queued_cost, delayed, running FROM tenant
WHERE pool = :pool AND tenant = :tenant;
