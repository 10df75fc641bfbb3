"""What is said when a call to an upstream fails."""

import ssl

from sluicegate.errors import BackendFailed, BackendTimeout, BackendUnavailable
from sluicegate.settings import TimeoutSettings

_TOO_LATE = {
    "connect": "no connection",
    "first_byte": "no answer began",
    "idle": "the answer paused and nothing more came",
    "total": "the answer was not complete",
}


class Failures:
    """The errors of one upstream; each names the backend and the place, neither its key nor its password."""

    __slots__ = ("_name", "_place", "limits")

    def __init__(self, name: str, place: str, limits: TimeoutSettings) -> None:
        self._name = name
        self._place = place
        self.limits = limits

    def too_late(self, limit: str) -> BackendTimeout:
        """One of the four limits has passed; `limit` is its name in the settings."""
        seconds = getattr(self.limits, limit)
        return BackendTimeout(
            f"{self._name}: {_TOO_LATE[limit]} within {seconds:g} s; raise timeout_seconds.{limit} of this backend if "
            "it may take longer",
            details={"backend": self._name, "limit": limit, "seconds": seconds},
        )

    def silent(self, seconds: float) -> BackendTimeout:
        """A probe was not answered in time."""
        return BackendTimeout(f"{self._name}: {self._place} did not answer within {seconds:g} s")

    def unreachable(self, error: Exception) -> BackendUnavailable:
        """No connection could be made."""
        return BackendUnavailable(f"{self._name}: cannot connect to {self._place} ({_words(error)})")

    def unreachable_in_time(self) -> BackendUnavailable:
        """No connection was made in time, so that nothing was sent and another backend may be tried."""
        late = self.too_late("connect")
        return BackendUnavailable(late.message, details=late.details)

    def all_in_use(self, most: int) -> BackendUnavailable:
        """The pool's bound is reached."""
        return BackendUnavailable(f"{self._name}: every connection to {self._place} is in use ({most})")

    def unanswered(self, error: Exception | None) -> BackendUnavailable:
        """The connection ended where the head of an answer should have been."""
        message = f"{self._name}: {self._place} closed the connection before it answered ({_words(error)})"
        return BackendUnavailable(message, details={"connected": True})

    def broken(self, error: Exception | None) -> BackendFailed:
        """The connection ended inside an answer."""
        return BackendFailed(f"{self._name}: {self._place} broke off the answer ({_words(error)})")

    def nonsense(self, fault: str) -> BackendFailed:
        """What came is no HTTP/1.1, or none that was asked for."""
        return BackendFailed(f"{self._name}: {self._place} does not speak HTTP as it should ({fault})")

    def too_long(self, most: int) -> BackendFailed:
        """An answer that is read at once is longer than anything sensible."""
        return BackendFailed(f"{self._name}: {self._place} answered with more than {most} bytes")

    def stopped(self, *, begun: bool) -> BackendFailed | BackendUnavailable:
        """The client is closed."""
        message = f"{self._name}: stopped"
        return BackendFailed(message) if begun else BackendUnavailable(message)


def _words(error: Exception | None) -> str:
    """The error's own words; of a certificate that is not believed only why."""
    if error is None:
        return "end of stream"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return str(error).strip().rstrip(".") or type(error).__name__
