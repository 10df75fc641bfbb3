-- How many jobs a tenant has queued in a pool.
SELECT queued FROM tenant WHERE pool = :pool AND tenant = :tenant;
