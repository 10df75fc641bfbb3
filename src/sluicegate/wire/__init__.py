"""What both sides of a relayed call share: the clock that limits are kept by."""
