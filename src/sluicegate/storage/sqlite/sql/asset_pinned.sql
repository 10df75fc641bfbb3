-- A job that has not ended and needs the asset.
SELECT job FROM job_asset WHERE asset = :asset LIMIT 1;
