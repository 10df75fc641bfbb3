-- A pool's clock, and how many claims must pass before the starvation guard may act again.
SELECT vtime, guard_in FROM pool WHERE pool = :pool;
