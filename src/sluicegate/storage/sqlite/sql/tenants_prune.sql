-- Forget tenants that have had nothing for long and would come back level with the others anyway.
DELETE FROM tenant
WHERE queued = 0 AND delayed = 0 AND running = 0 AND since < :before
    AND vtime <= (SELECT pool.vtime FROM pool WHERE pool.pool = tenant.pool);
