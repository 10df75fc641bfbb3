"""Which work runs where and when. `intake` takes jobs in, `worker` claims and `executor` runs them, `caretaker`
returns what the dead left behind, `balancer` chooses a backend for interactive calls."""
