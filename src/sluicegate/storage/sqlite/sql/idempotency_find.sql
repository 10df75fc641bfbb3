-- The submission that came with a tenant's key.
SELECT digest, job, created_at FROM idempotency
WHERE tenant = :tenant AND key = :key;
