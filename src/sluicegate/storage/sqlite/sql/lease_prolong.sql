-- Prolong a lease that is still current; no row when it is stale.
UPDATE job SET lease_until = :lease_until
WHERE id = :id AND fence = :fence AND worker = :worker AND state IN ('running', 'canceling')
RETURNING state, deadline_at, preempting;
