-- Add or refresh a worker.
INSERT INTO worker (id, host, pid, started_at, seen_at, models, loaded, pools)
VALUES (:id, :host, :pid, :started_at, :now, :models, :loaded, :pools)
ON CONFLICT (id) DO UPDATE
SET host = excluded.host, pid = excluded.pid, started_at = excluded.started_at, seen_at = excluded.seen_at,
    models = excluded.models, loaded = excluded.loaded, pools = excluded.pools;
