"""Who does the work. `backend` holds the contracts; each other file or folder is an adapter; `fleet` is all of them."""
