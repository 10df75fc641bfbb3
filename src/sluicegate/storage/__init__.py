"""Under the floor: what must survive. `contracts` says what every engine promises; the engines stand beside it."""
