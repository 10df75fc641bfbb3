-- Any asset that refers to a blob.
SELECT 1 FROM asset WHERE sha256 = :sha256 LIMIT 1;
