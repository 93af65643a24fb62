"""The house, one line a room. Imports point to rooms further up this list, never down (tests/unit/test_layout.py).

errors      the error tree, by what the caller should do next
rules/      pure rules: no I/O, no clock, no settings (coverage, rate, retry, schedule, shares, redaction ...)
settings/   every environment variable, grouped and typed; log: one log stream, secrets redacted
            meters: what is counted; tracing: OpenTelemetry; batcher: many callers in few round trips
clients/    one module per outside system: mongo, redis, pancake/, rate_limit, merchants/
store/      one module per MongoDB collection; the only place that speaks its query language
sync/       what keeps a collection in step with a Pancake list: streams, the gap filler, the pass over one page
deps        everything a job may use, opened once per process
engine/     what makes arq a production queue: boundary, lanes, leases, wire format, dead letters, history
catalog     every job as its callers see it: arguments, lane, limits; enqueue: the helper for other apps
scheduling/ when what runs: the book of schedules, the loop that fires them, what people do with them
webhooks/   what jobs, commands and HTTP do with merchants' events, endpoints and deliveries
alerts/     who is told what, once; monitoring/ what is there and how it does: agents, servers, the machine, vitals
jobs/       one module per family of jobs: thin typed coroutines
service     a worker process: what it opens, and in which order it ends
runtime     how our processes run; worker      `arq src.worker.WorkerSettings`; cli/ and doctor: `python -m src ...`

Inside the package every import is relative: the same tree is `src` in a checkout and `folkform_worker` in the wheel.
"""

__version__ = "0.1.0"
