"""Who asks."""

import msgspec

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant

LOCAL_TENANT = Tenant("local")


class Principal(msgspec.Struct, frozen=True):
    """The tenant on whose behalf a request acts, and what its tier grants."""

    tenant: Tenant
    tier: Tier = Tier()
