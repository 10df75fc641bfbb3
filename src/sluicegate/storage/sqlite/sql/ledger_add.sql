-- Write what an ended job is charged.
INSERT INTO ledger (job, tenant, pool, tier, model, cost, at)
VALUES (:job, :tenant, :pool, :tier, :model, :cost, :now);
