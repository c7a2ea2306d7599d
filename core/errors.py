"""Every error a user can meet.

BerthError
├── CallerError                 the request has to change
│   ├── InvalidRequest          422  a field is missing, unknown or out of range
│   ├── InvalidImage            422  a picture that cannot be read, or that was named instead of sent
│   ├── RequestTooLarge         413
│   ├── NotAuthenticated        401
│   ├── NotAllowed              403
│   ├── ModelNotFound           404  no model of that name here
│   ├── NoSupportedTask         400  no runtime of ours can run this model
│   ├── TaskNotSupported        400  this model cannot do that task
│   ├── WrongState              409  the model is not in a state for this
│   ├── LoadCancelled           409
│   ├── RepositoryNotFound      404  no such repository, revision or directory
│   ├── RepositoryGated         403  a licence must be accepted, or a token given
│   ├── RemoteCodeRefused       403  the model wants its own code run
│   ├── PickleRefused           403  pickled weights, and they are switched off or the caller is no admin
│   ├── CorruptModel            422  a file is not what it says
│   ├── ContextOverflow         422  the prompt, or the prompt and its answer, are longer than the model's context
│   ├── TemplateFailed          422  a model's chat template cannot render, or takes for ever
│   ├── TemplateNotFound        404  no prompt template of that name
│   ├── ConversationNotFound    404
│   ├── ConversationBusy        409  another turn of this conversation is being answered
│   ├── ImageQuotaExceeded      409  the caller's conversations hold as many bytes of images as they may
│   └── LoadFailed              422  the runtime could not load it
├── BusyError                   the same request may work later; carries retry_after
│   ├── QueueFull               429
│   ├── ModelLoading            503
│   ├── ModelDraining           503
│   ├── ModelFailed             503  it died too often; load it again to retry
│   ├── WorkerCrashed           503
│   ├── ShuttingDown            503
│   ├── NotReady                503  the data directory cannot be written
│   ├── HubBusy                 503  the Hub said 429 or 5xx
│   ├── HubUnreachable          503  no connection, or offline mode
│   └── DeadlineExceeded        504
└── HostError                   this machine cannot
    ├── InsufficientMemory      507
    ├── DiskFull                507
    ├── RuntimeUnavailable      503  the library is missing or does not import
    └── InternalError           500  our own bug

The worker sends `{type, message}` over its wire and the front process raises the same class: `revive`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from core.types import Plan


class BerthError(Exception):
    """Base of all. `message` says what happened, to which model, and what to do next."""

    type: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    detail: ClassVar[str | None] = None  # the fixed `detail` older clients compare with
    param: str | None = None  # the field of the request that has to change, where it is one

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # seconds

    def copy(self) -> BerthError:
        """The same error as another object: each of several waiters must raise one of its own."""
        return type(self)(self.message, retry_after=self.retry_after)

    @property
    def shown(self) -> str:
        """What a user is told."""
        return self.message


class CallerError(BerthError):
    type = "invalid_request"


class InvalidRequest(CallerError):
    type = "invalid_request"


class InvalidImage(CallerError):
    type = "invalid_image"


class RequestTooLarge(CallerError):
    type = "request_too_large"


class NotAuthenticated(CallerError):
    type = "not_authenticated"


class NotAllowed(CallerError):
    type = "not_allowed"


class ModelNotFound(CallerError):
    type = "model_not_found"
    detail = "Model not found or not loaded"
    param = "model"


class NoSupportedTask(CallerError):
    type = "no_supported_task"
    detail = "No supported tasks found for this model"


class TaskNotSupported(CallerError):
    type = "task_not_supported"


class WrongState(CallerError):
    type = "wrong_state"


class LoadCancelled(CallerError):
    type = "load_cancelled"


class RepositoryNotFound(CallerError):
    type = "repository_not_found"


class RepositoryGated(CallerError):
    type = "repository_gated"


class RemoteCodeRefused(CallerError):
    type = "remote_code_refused"


class PickleRefused(CallerError):
    type = "pickle_refused"


class CorruptModel(CallerError):
    type = "corrupt_model"


class LoadFailed(CallerError):
    type = "load_failed"


class ContextOverflow(CallerError):
    type = "context_length_exceeded"


class TemplateFailed(CallerError):
    type = "template_failed"


class TemplateNotFound(CallerError):
    type = "template_not_found"


class ConversationNotFound(CallerError):
    type = "conversation_not_found"


class ConversationBusy(CallerError):
    type = "conversation_busy"


class ImageQuotaExceeded(CallerError):
    type = "image_quota_exceeded"


class BusyError(BerthError):
    type = "busy"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = 1.0) -> None:
        super().__init__(message, retry_after=retry_after)


class QueueFull(BusyError):
    type = "queue_full"


class ModelLoading(BusyError):
    type = "model_loading"


class ModelDraining(BusyError):
    type = "model_draining"


class ModelFailed(BusyError):
    type = "model_failed"
    retryable = False


class WorkerCrashed(BusyError):
    type = "worker_crashed"


class ShuttingDown(BusyError):
    type = "server_shutting_down"


class NotReady(BusyError):
    type = "not_ready"


class HubBusy(BusyError):
    type = "hub_busy"


class HubUnreachable(BusyError):
    type = "hub_unreachable"


class DeadlineExceeded(BusyError):
    type = "deadline_exceeded"


class HostError(BerthError):
    type = "host_error"


class InsufficientMemory(HostError):
    type = "insufficient_memory"
    retryable = True
    plan: Plan | None = None  # of the load that was refused, at that moment

    def copy(self) -> InsufficientMemory:
        copied = type(self)(self.message, retry_after=self.retry_after)
        copied.plan = self.plan
        return copied


class DiskFull(HostError):
    type = "disk_full"


class RuntimeUnavailable(HostError):
    type = "runtime_unavailable"


class InternalError(HostError):
    type = "internal"

    @property
    def shown(self) -> str:
        """What went wrong in our own code may name paths and inputs; it is for the log."""
        return "Something went wrong in the server; its log says what."


def all_errors(root: type[BerthError] = BerthError) -> list[type[BerthError]]:
    """`root` and every class below it."""
    return [root, *(kind for child in root.__subclasses__() for kind in all_errors(child))]


def revive(type_name: str, message: str) -> BerthError:
    """The error a worker reported, as the class it was raised as; unknown types are our own bug."""
    for kind in reversed(all_errors()):
        if kind.type == type_name:
            return kind(message)
    return InternalError(message)
