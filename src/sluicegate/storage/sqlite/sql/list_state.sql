-- Ids of a tenant's jobs in one state before the cursor, newest first.
SELECT id FROM job
WHERE tenant = :tenant AND state = :state AND id < :cursor
ORDER BY id DESC
LIMIT :limit;
