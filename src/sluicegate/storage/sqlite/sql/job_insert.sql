-- Store a new job at the end of its lane.
INSERT INTO job (id, tenant, state, model, task, input, priority, created_at, deadline_at, max_attempts, metadata)
VALUES (:id, :tenant, 'queued', :model, :task, :input, :priority, :now, :deadline_at, :max_attempts, :metadata);
