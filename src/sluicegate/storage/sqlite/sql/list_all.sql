-- Ids of a tenant's jobs before the cursor, newest first.
SELECT id FROM job
WHERE tenant = :tenant AND id < :cursor
ORDER BY id DESC
LIMIT :limit;
