-- The job that a lease still holds; no row when the lease is stale.
SELECT * FROM job
WHERE id = :id AND fence = :fence AND state IN ('running', 'canceling');
