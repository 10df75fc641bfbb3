-- One asset of a tenant: asset, tenant.
SELECT id, tenant, content_type, size_bytes, width, height, sha256, created_at FROM asset
WHERE id = $1 AND tenant = $2;
