-- Forget some of the outdated keys, the oldest first.
DELETE FROM idempotency WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency WHERE created_at <= :before ORDER BY created_at LIMIT :limit
);
