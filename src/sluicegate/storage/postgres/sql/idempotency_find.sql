-- The submission that came with a tenant's key within 24 h: tenant, key, time.
SELECT digest, job FROM idempotency
WHERE tenant = $1 AND key = $2 AND created_at > moment($3) - 86400.0;
