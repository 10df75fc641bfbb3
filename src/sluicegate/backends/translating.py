"""A translation between an upstream and who takes its answer."""

from sluicegate.backends.backend import AnswerHead, AnswerSink
from sluicegate.backends.between import Between
from sluicegate.backends.dialects.translation import Translation
from sluicegate.errors import BackendFailed


class TranslatingSink(Between):
    """Hands on an answer in another dialect.

    An answer of another status than 200 is passed on as it is, and so is one whose content type does not begin with
    `only`. When the translation fails the call is cancelled and the sink is told.
    """

    __slots__ = ("_only", "_translates", "_translation")

    def __init__(self, sink: AnswerSink, translation: Translation, *, only: str = "") -> None:
        super().__init__(sink)
        self._translation = translation
        self._only = only
        self._translates = False

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        self._translates = head.status == 200 and head.content_type.startswith(self._only)
        if self._translates:
            head = AnswerHead(head.status, self._translation.content_type, head.retry_after)
        super().answer_begun(head)

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink`."""
        if self._translates:
            try:
                data = self._translation.feed(data)
            except BackendFailed as error:
                self._give_up(error)
                return
        super().answer_piece(data)

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        if self._translates:
            try:
                last = self._translation.finish()
            except BackendFailed as error:
                self._give_up(error)
                return
            super().answer_piece(last)
        super().answer_ended()

    def _give_up(self, error: BackendFailed) -> None:
        if self._call is not None:
            self._call.cancel()
        self.answer_failed(error)
