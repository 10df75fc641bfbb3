"""Who asks."""

import msgspec

from sluicegate.domain.ids import Tenant

LOCAL_TENANT = Tenant("local")


class Principal(msgspec.Struct, frozen=True):
    """The tenant on whose behalf a request acts."""

    tenant: Tenant
