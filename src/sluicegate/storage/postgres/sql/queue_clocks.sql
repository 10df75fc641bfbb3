-- Each pool's clock.
SELECT pool, vtime FROM pool ORDER BY pool;
