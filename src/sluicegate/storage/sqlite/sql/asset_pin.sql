-- Keep a tenant's asset for as long as the job lives.
INSERT INTO job_asset (asset, job)
SELECT id, :job FROM asset WHERE id = :asset AND tenant = :tenant
ON CONFLICT (asset, job) DO NOTHING;
