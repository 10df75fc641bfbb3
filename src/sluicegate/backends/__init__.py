"""Who does the work. `backend` holds the contracts; every other file or folder is an adapter; `fleet` is all of them."""
