"""Who does the work. `backend` holds the contracts; every other file or folder is one adapter, and `fleet` all of them."""
