-- How many jobs of each tenant wait for each model.
SELECT pool, tenant, model, queued FROM lane ORDER BY pool, tenant, model;
