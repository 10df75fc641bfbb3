-- Forget an asset.
DELETE FROM asset WHERE id = :id;
