-- How many jobs of a tenant have ended since a moment, and what they were charged: tenant, moment.
SELECT count(*) AS jobs, coalesce(sum(cost), 0.0) AS cost FROM ledger
WHERE tenant = $1 AND at >= $2;
