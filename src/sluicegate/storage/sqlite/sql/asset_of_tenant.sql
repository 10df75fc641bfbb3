-- One asset of a tenant.
SELECT id, tenant, content_type, size_bytes, width, height, sha256, created_at FROM asset
WHERE id = :id AND tenant = :tenant;
