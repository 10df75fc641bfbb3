-- Ids of a tenant's jobs of one model in one state before the cursor, newest first.
SELECT id FROM job
WHERE tenant = :tenant AND model = :model AND state = :state AND id < :cursor
ORDER BY id DESC
LIMIT :limit;
