-- Remember a tenant's key; an outdated entry gives way.
INSERT INTO idempotency (tenant, key, digest, job, created_at)
VALUES (:tenant, :key, :digest, :job, :now)
ON CONFLICT (tenant, key) DO UPDATE
SET digest = excluded.digest, job = excluded.job, created_at = excluded.created_at;
