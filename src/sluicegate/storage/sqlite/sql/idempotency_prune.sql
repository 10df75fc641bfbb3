-- Forget outdated keys.
DELETE FROM idempotency WHERE created_at <= :before;
