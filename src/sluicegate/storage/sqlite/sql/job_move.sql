-- Put a job in another state; whoever calls has checked that the transition exists.
UPDATE job SET
    state = :state, attempt = :attempt, fence = :fence, worker = :worker, lease_until = :lease_until,
    due_at = :due_at, started_at = :started_at, completed_at = :completed_at, backend = :backend,
    execution_seconds = :execution_seconds, outputs = :outputs, error = :error, degraded = :degraded,
    details = :details, paid = :paid, weight = :weight, charged = :charged, claimed_at = :claimed_at,
    preempting = :preempting, preemptions = :preemptions, moves = moves + 1
WHERE id = :id;
