-- One more queued job in a tenant's lane; a lane that was empty begins now.
INSERT INTO lane (pool, tenant, model, queued, since, ready, vtime, tenant_since)
VALUES (:pool, :tenant, :model, 1, :now, :ready, :vtime, :tenant_since)
ON CONFLICT (pool, tenant, model) DO UPDATE SET queued = queued + 1;
