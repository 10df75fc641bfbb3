"""Who asks, and may they now."""
