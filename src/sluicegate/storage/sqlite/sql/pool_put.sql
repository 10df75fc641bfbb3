-- Set a pool's clock.
UPDATE pool SET vtime = :vtime, guard_in = :guard_in WHERE pool = :pool;
