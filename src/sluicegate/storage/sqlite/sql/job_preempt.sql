-- Have the holder of a running job told to give way; no row when it must not.
UPDATE job SET preempting = 1
WHERE id = :id AND fence = :fence AND state = 'running' AND preemptible = 1 AND preempting = 0
    AND preemptions < :most;
