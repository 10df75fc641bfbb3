-- Jobs whose worker has been silent for too long, longest first.
SELECT * FROM job
WHERE state IN ('running', 'canceling') AND lease_until <= :now
ORDER BY lease_until, id
LIMIT :limit;
