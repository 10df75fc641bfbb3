"""The sweep: bytes that no asset refers to are deleted once they are old enough to be nobody's work in progress."""

from sluicegate.observability.logs import Log
from sluicegate.storage.contracts import AssetCatalog, BlobStore

GRACE_SECONDS = 3_600.0
"""A blob is written before its asset is recorded; within this time the record may still be on its way."""
_BATCH = 500


class Sweep:
    """Deletes unreferenced blobs and abandoned staging files."""

    def __init__(self, catalog: AssetCatalog, blobs: BlobStore, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._grace = grace_seconds
        self._log = Log("sluicegate.results.sweep")

    async def run(self) -> int:
        """One pass over the store; how many blobs went."""
        await self._blobs.tidy(older_than_seconds=self._grace)
        digests = list(await self._blobs.aged(self._grace))
        gone = 0
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            kept = await self._catalog.referenced(batch)
            for digest in batch:
                if digest not in kept:
                    gone += await self._blobs.discard(digest, older_than_seconds=self._grace)
        if gone:
            self._log.info("swept", blobs=gone)
        return gone
