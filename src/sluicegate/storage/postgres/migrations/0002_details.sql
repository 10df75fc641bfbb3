-- What a model says of its work beyond the pictures: unread words, the recipe to make them again.
ALTER TABLE job ADD COLUMN details text NOT NULL DEFAULT '{}';
