-- Let a tenant's lanes show its tag, its last service, and whether a claim may take from them.
UPDATE lane SET ready = :ready, vtime = :vtime, tenant_since = :tenant_since WHERE pool = :pool AND tenant = :tenant;
