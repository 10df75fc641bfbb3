"""Results: pictures as content-addressed assets, their thumbnails, and the sweep of what nobody refers to."""
