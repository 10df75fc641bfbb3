-- How many jobs of a tenant have ended since a moment, and what they were charged.
SELECT count(*) AS jobs, coalesce(sum(cost), 0.0) AS cost FROM ledger
WHERE tenant = :tenant AND at >= :since;
