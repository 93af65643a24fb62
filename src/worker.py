"""Entry point: `arq src.worker.WorkerSettings`. Reads the settings; wrong ones end the start, a line per fault."""

import logging
import sys
from types import TracebackType

from redis.exceptions import AuthenticationError, ResponseError

from .errors import Misuse, ServiceError
from .jobs import ALL_JOBS
from .rules.redact import redact
from .runtime import last_words, prepare_process
from .service import Service
from .settings import Settings, load_settings


def _settings() -> Settings:
    try:
        return load_settings()
    except Misuse as e:
        sys.exit(f"cannot start, the settings are wrong:\n{e}")


prepare_process()
# what it says before our log begins has not our form, and our own first lines say the same; a filter, because arq's
# command line sets levels and handlers anew after importing us
logging.getLogger("arq.worker").addFilter(lambda record: record.levelno > logging.INFO)
settings = _settings()


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A dependency that is not there is no bug: say what to do, without a traceback."""
    if isinstance(error, ServiceError):
        sys.stderr.write(f"cannot start: {error}\n")
    elif isinstance(error, AuthenticationError | ResponseError):
        sys.stderr.write(f"cannot go on: Redis at {settings.redis.shown} refuses us: {redact(str(error))}\n")
    elif isinstance(error, ConnectionError | TimeoutError) or kind.__module__.startswith("redis."):
        shown, advice = settings.redis.shown, settings.redis.advice
        sys.stderr.write(f"cannot start: Redis does not answer at {shown}: {advice}\n")
    else:
        last_words(kind, error, trace)


sys.excepthook = _in_one_line

#: What arq reads.
WorkerSettings = type("WorkerSettings", (), Service(settings, ALL_JOBS).arq_options())
