-- What has become of a lease; no row when it is stale.
SELECT state, deadline_at, preempting FROM job
WHERE id = :id AND fence = :fence AND state IN ('running', 'canceling');
