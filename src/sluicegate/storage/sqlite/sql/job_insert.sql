-- Store a new job at the end of its lane.
INSERT INTO job (
    id, tenant, state, model, task, pool, tier, input, priority, cost, base_cost, preemptible, created_at,
    deadline_at, max_attempts, metadata, moves
)
VALUES (
    :id, :tenant, 'queued', :model, :task, :pool, :tier, :input, :priority, :cost, :base_cost, :preemptible, :now,
    :deadline_at, :max_attempts, :metadata, 0
);
