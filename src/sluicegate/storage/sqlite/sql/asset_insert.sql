-- Record an asset.
INSERT INTO asset (id, tenant, content_type, size_bytes, width, height, sha256, created_at)
VALUES (:id, :tenant, :content_type, :size_bytes, :width, :height, :sha256, :created_at);
