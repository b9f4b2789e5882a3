from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Compare(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPARE_UNSPECIFIED: _ClassVar[Compare]
    COMPARE_EXACT: _ClassVar[Compare]
    COMPARE_STRIP: _ClassVar[Compare]
    COMPARE_LINES: _ClassVar[Compare]

class Network(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_UNSPECIFIED: _ClassVar[Network]
    NETWORK_NONE: _ClassVar[Network]
    NETWORK_LOOPBACK: _ClassVar[Network]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_OK: _ClassVar[Status]
    STATUS_FAILED: _ClassVar[Status]
    STATUS_SIGNALED: _ClassVar[Status]
    STATUS_TIMED_OUT: _ClassVar[Status]
    STATUS_OUT_OF_MEMORY: _ClassVar[Status]
    STATUS_OUTPUT_LIMIT: _ClassVar[Status]
    STATUS_EXPIRED: _ClassVar[Status]
    STATUS_CANCELLED: _ClassVar[Status]
    STATUS_INFRA_ERROR: _ClassVar[Status]

class Limit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_UNSPECIFIED: _ClassVar[Limit]
    LIMIT_WALL: _ClassVar[Limit]
    LIMIT_CPU: _ClassVar[Limit]
    LIMIT_MEMORY: _ClassVar[Limit]
    LIMIT_OUTPUT: _ClassVar[Limit]
    LIMIT_DEADLINE: _ClassVar[Limit]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_QUEUED: _ClassVar[State]
    STATE_RUNNING: _ClassVar[State]
    STATE_DONE: _ClassVar[State]

class CheckStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_STATUS_UNSPECIFIED: _ClassVar[CheckStatus]
    CHECK_STATUS_OK: _ClassVar[CheckStatus]
    CHECK_STATUS_UNPARSED: _ClassVar[CheckStatus]
    CHECK_STATUS_TIMED_OUT: _ClassVar[CheckStatus]
    CHECK_STATUS_TOO_LARGE: _ClassVar[CheckStatus]
    CHECK_STATUS_BAD_REFERENCE: _ClassVar[CheckStatus]
    CHECK_STATUS_EXPIRED: _ClassVar[CheckStatus]
    CHECK_STATUS_INFRA_ERROR: _ClassVar[CheckStatus]
COMPARE_UNSPECIFIED: Compare
COMPARE_EXACT: Compare
COMPARE_STRIP: Compare
COMPARE_LINES: Compare
NETWORK_UNSPECIFIED: Network
NETWORK_NONE: Network
NETWORK_LOOPBACK: Network
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BATCH: Priority
STATUS_UNSPECIFIED: Status
STATUS_OK: Status
STATUS_FAILED: Status
STATUS_SIGNALED: Status
STATUS_TIMED_OUT: Status
STATUS_OUT_OF_MEMORY: Status
STATUS_OUTPUT_LIMIT: Status
STATUS_EXPIRED: Status
STATUS_CANCELLED: Status
STATUS_INFRA_ERROR: Status
LIMIT_UNSPECIFIED: Limit
LIMIT_WALL: Limit
LIMIT_CPU: Limit
LIMIT_MEMORY: Limit
LIMIT_OUTPUT: Limit
LIMIT_DEADLINE: Limit
STATE_UNSPECIFIED: State
STATE_QUEUED: State
STATE_RUNNING: State
STATE_DONE: State
CHECK_STATUS_UNSPECIFIED: CheckStatus
CHECK_STATUS_OK: CheckStatus
CHECK_STATUS_UNPARSED: CheckStatus
CHECK_STATUS_TIMED_OUT: CheckStatus
CHECK_STATUS_TOO_LARGE: CheckStatus
CHECK_STATUS_BAD_REFERENCE: CheckStatus
CHECK_STATUS_EXPIRED: CheckStatus
CHECK_STATUS_INFRA_ERROR: CheckStatus

class Limits(_message.Message):
    __slots__ = ("wall_s", "cpu_s", "memory_mb", "output_kb", "processes", "disk_mb")
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KB_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    DISK_MB_FIELD_NUMBER: _ClassVar[int]
    wall_s: float
    cpu_s: float
    memory_mb: int
    output_kb: int
    processes: int
    disk_mb: int
    def __init__(self, wall_s: _Optional[float] = ..., cpu_s: _Optional[float] = ..., memory_mb: _Optional[int] = ..., output_kb: _Optional[int] = ..., processes: _Optional[int] = ..., disk_mb: _Optional[int] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("id", "language", "code", "stdin", "args", "env", "files", "fetch", "timeout_s", "limits", "expected_stdout", "compare", "show_last_value", "seed", "network", "image", "priority", "labels", "session")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_STDOUT_FIELD_NUMBER: _ClassVar[int]
    COMPARE_FIELD_NUMBER: _ClassVar[int]
    SHOW_LAST_VALUE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    language: str
    code: str
    stdin: str
    args: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    files: _containers.ScalarMap[str, bytes]
    fetch: _containers.RepeatedScalarFieldContainer[str]
    timeout_s: float
    limits: Limits
    expected_stdout: str
    compare: Compare
    show_last_value: bool
    seed: int
    network: Network
    image: str
    priority: Priority
    labels: _containers.ScalarMap[str, str]
    session: str
    def __init__(self, id: _Optional[str] = ..., language: _Optional[str] = ..., code: _Optional[str] = ..., stdin: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., files: _Optional[_Mapping[str, bytes]] = ..., fetch: _Optional[_Iterable[str]] = ..., timeout_s: _Optional[float] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., expected_stdout: _Optional[str] = ..., compare: _Optional[_Union[Compare, str]] = ..., show_last_value: _Optional[bool] = ..., seed: _Optional[int] = ..., network: _Optional[_Union[Network, str]] = ..., image: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., session: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "calls")
    ID_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    id: str
    calls: _containers.RepeatedCompositeFieldContainer[Call]
    def __init__(self, id: _Optional[str] = ..., calls: _Optional[_Iterable[_Union[Call, _Mapping]]] = ...) -> None: ...

class Truncated(_message.Message):
    __slots__ = ("stdout", "stderr")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    stdout: bool
    stderr: bool
    def __init__(self, stdout: _Optional[bool] = ..., stderr: _Optional[bool] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("wall_s", "cpu_s", "descheduled_s", "memory_peak_mb")
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    DESCHEDULED_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_MB_FIELD_NUMBER: _ClassVar[int]
    wall_s: float
    cpu_s: float
    descheduled_s: float
    memory_peak_mb: float
    def __init__(self, wall_s: _Optional[float] = ..., cpu_s: _Optional[float] = ..., descheduled_s: _Optional[float] = ..., memory_peak_mb: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("admitted", "queued", "dispatched", "forked", "ran", "collected", "total")
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    FORKED_FIELD_NUMBER: _ClassVar[int]
    RAN_FIELD_NUMBER: _ClassVar[int]
    COLLECTED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    admitted: float
    queued: float
    dispatched: float
    forked: float
    ran: float
    collected: float
    total: float
    def __init__(self, admitted: _Optional[float] = ..., queued: _Optional[float] = ..., dispatched: _Optional[float] = ..., forked: _Optional[float] = ..., ran: _Optional[float] = ..., collected: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("id", "status", "exit_code", "signal", "limit", "retryable", "stdout", "stderr", "replaced", "truncated", "files", "passed", "usage", "timings", "attempts", "worker", "image", "labels", "message")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Status
    exit_code: int
    signal: str
    limit: Limit
    retryable: bool
    stdout: str
    stderr: str
    replaced: Truncated
    truncated: Truncated
    files: _containers.ScalarMap[str, bytes]
    passed: bool
    usage: Usage
    timings: Timings
    attempts: int
    worker: str
    image: str
    labels: _containers.ScalarMap[str, str]
    message: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., exit_code: _Optional[int] = ..., signal: _Optional[str] = ..., limit: _Optional[_Union[Limit, str]] = ..., retryable: _Optional[bool] = ..., stdout: _Optional[str] = ..., stderr: _Optional[str] = ..., replaced: _Optional[_Union[Truncated, _Mapping]] = ..., truncated: _Optional[_Union[Truncated, _Mapping]] = ..., files: _Optional[_Mapping[str, bytes]] = ..., passed: _Optional[bool] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., attempts: _Optional[int] = ..., worker: _Optional[str] = ..., image: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., message: _Optional[str] = ...) -> None: ...

class IndexedResult(_message.Message):
    __slots__ = ("index", "result")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    index: int
    result: Result
    def __init__(self, index: _Optional[int] = ..., result: _Optional[_Union[Result, _Mapping]] = ...) -> None: ...

class BatchEnd(_message.Message):
    __slots__ = ("id", "count", "done")
    ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    count: int
    done: bool
    def __init__(self, id: _Optional[str] = ..., count: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class BatchEvent(_message.Message):
    __slots__ = ("result", "end")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    result: IndexedResult
    end: BatchEnd
    def __init__(self, result: _Optional[_Union[IndexedResult, _Mapping]] = ..., end: _Optional[_Union[BatchEnd, _Mapping]] = ...) -> None: ...

class StreamCall(_message.Message):
    __slots__ = ("tag", "call")
    TAG_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    tag: int
    call: Call
    def __init__(self, tag: _Optional[int] = ..., call: _Optional[_Union[Call, _Mapping]] = ...) -> None: ...

class StreamEvent(_message.Message):
    __slots__ = ("result", "error", "end")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    result: TaggedResult
    error: TaggedError
    end: StreamEnd
    def __init__(self, result: _Optional[_Union[TaggedResult, _Mapping]] = ..., error: _Optional[_Union[TaggedError, _Mapping]] = ..., end: _Optional[_Union[StreamEnd, _Mapping]] = ...) -> None: ...

class TaggedResult(_message.Message):
    __slots__ = ("tag", "result")
    TAG_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    tag: int
    result: Result
    def __init__(self, tag: _Optional[int] = ..., result: _Optional[_Union[Result, _Mapping]] = ...) -> None: ...

class TaggedError(_message.Message):
    __slots__ = ("tag", "error")
    TAG_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    tag: int
    error: Error
    def __init__(self, tag: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class StreamEnd(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Lookup(_message.Message):
    __slots__ = ("id", "wait_s")
    ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    id: str
    wait_s: float
    def __init__(self, id: _Optional[str] = ..., wait_s: _Optional[float] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("id", "state")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: State
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[State, str]] = ...) -> None: ...

class CallState(_message.Message):
    __slots__ = ("result", "ticket")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    result: Result
    ticket: Ticket
    def __init__(self, result: _Optional[_Union[Result, _Mapping]] = ..., ticket: _Optional[_Union[Ticket, _Mapping]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("id", "batch", "label")
    ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    id: str
    batch: str
    label: Label
    def __init__(self, id: _Optional[str] = ..., batch: _Optional[str] = ..., label: _Optional[_Union[Label, _Mapping]] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("state", "count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    state: State
    count: int
    def __init__(self, state: _Optional[_Union[State, str]] = ..., count: _Optional[int] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("answer", "reference")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    answer: str
    reference: str
    def __init__(self, answer: _Optional[str] = ..., reference: _Optional[str] = ...) -> None: ...

class Checks(_message.Message):
    __slots__ = ("checks", "limit_s", "timeout_s")
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    limit_s: float
    timeout_s: float
    def __init__(self, checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., limit_s: _Optional[float] = ..., timeout_s: _Optional[float] = ...) -> None: ...

class Checked(_message.Message):
    __slots__ = ("status", "correct")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CORRECT_FIELD_NUMBER: _ClassVar[int]
    status: CheckStatus
    correct: bool
    def __init__(self, status: _Optional[_Union[CheckStatus, str]] = ..., correct: _Optional[bool] = ...) -> None: ...

class Verdicts(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Checked]
    def __init__(self, results: _Optional[_Iterable[_Union[Checked, _Mapping]]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "retry_after_s", "retryable", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    retry_after_s: float
    retryable: bool
    details: _containers.RepeatedCompositeFieldContainer[Detail]
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., retry_after_s: _Optional[float] = ..., retryable: _Optional[bool] = ..., details: _Optional[_Iterable[_Union[Detail, _Mapping]]] = ...) -> None: ...

class Detail(_message.Message):
    __slots__ = ("field", "message")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
