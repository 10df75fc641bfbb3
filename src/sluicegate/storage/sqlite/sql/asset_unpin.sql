-- Let go of the assets that an ended job needed.
DELETE FROM job_asset WHERE job = :job;
