-- Move a pool's clock on to the least tag of its ready tenants.
UPDATE pool SET vtime = :vtime WHERE pool = :pool AND vtime < :vtime;
