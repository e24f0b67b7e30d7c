"""What scripts/fuzz-api adds to schemathesis: paths that name goods and users that exist, so that not all are 404."""

import schemathesis

from .seed import GOODS, USERS

EXISTING = {"/goods/user/{id}/": USERS, "/admin/users/{id}": USERS}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Every other id becomes one that exists, chosen by the random one."""
    number = (path_parameters or {}).get("id")
    if type(number) is int and number % 2 == 1:
        existing = EXISTING.get(context.operation.path, GOODS)
        path_parameters["id"] = existing[number // 2 % len(existing)]
    return path_parameters
