-- Keep a tenant's standing in a pool.
INSERT INTO tenant (
    pool, tenant, tier, weight, max_running, vtime, since, queued, queued_cost, delayed, running
)
VALUES (
    :pool, :tenant, :tier, :weight, :max_running, :vtime, :since, :queued, :queued_cost, :delayed, :running
)
ON CONFLICT (pool, tenant) DO UPDATE SET
    tier = excluded.tier, weight = excluded.weight, max_running = excluded.max_running, vtime = excluded.vtime,
    since = excluded.since, queued = excluded.queued, queued_cost = excluded.queued_cost, delayed = excluded.delayed,
    running = excluded.running;
