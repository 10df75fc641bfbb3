-- Those of some digests that an asset refers to: digests.
SELECT named.sha256 FROM unnest($1::text[]) AS named (sha256)
WHERE EXISTS (SELECT 1 FROM asset WHERE asset.sha256 = named.sha256);
