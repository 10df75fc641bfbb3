"""For whoever runs the gateway: the queue of every tenant."""
