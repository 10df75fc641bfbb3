-- Forget tenants that have had nothing for long.
DELETE FROM tenant WHERE queued = 0 AND delayed = 0 AND running = 0 AND since < :before;
