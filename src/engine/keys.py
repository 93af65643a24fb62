"""The names of everything we keep in Redis, in one place; the Lua scripts get them from here too.

arq's own (see arq.constants): the queue (sorted set: job id -> when due, in ms), the job, whether it is in progress,
its result. Ours, per lane or per job, under `folkform:`.
"""

from arq.constants import default_queue_name, in_progress_key_prefix, job_key_prefix, result_key_prefix

FRONT_DOOR = default_queue_name  # arq's default queue: served as a lane like any other
JOB = job_key_prefix
IN_PROGRESS = in_progress_key_prefix
RESULT = result_key_prefix

LANES = "folkform:lanes"  # set: every lane that was ever enqueued to or served
PAUSED = "folkform:paused"  # set of lanes
HEAD_START = "folkform:head-start"  # ms a priority of 1 is worth; written by the workers
WAKE = "folkform:wake"  # channel: the lane that got work
IDLE = "folkform:idle:"  # + lane: token of a worker that found nothing more to do in it
FREE = "folkform:free:"  # + token: how many jobs may be handed to that worker
ALIVE = "folkform:alive:"  # + token: it claimed a moment ago
HAND = "folkform:hand:"  # + token, channel: a job for that worker, claimed in its name
BEAT = "folkform:beat"  # ms: when a worker last spoke with Redis
HOLD = "folkform:hold"  # while it exists, nobody is taken for dead: Redis was away, and all leases ran out together
RUNNING = "folkform:running:"  # + lane, hash: job id -> token of its worker, after `?` until it arrived there
RETRY = "folkform:retry:"  # + lane, sorted set: jobs that failed and wait for their next try
PROMOTE = "folkform:promote:"  # + lane, sorted set: `<head start in ms>|<job id>` -> when it falls due
COUNTS = "folkform:counts:"  # + lane, hash: processed, failed, dead
TRIES = "folkform:tries:"  # + job id: `<tries that failed>:<workers it killed>`
FREED = "folkform:freed:"  # + job id: its holder let go of it a moment ago; a renewal that comes late is not to take it
HURRY = "folkform:hurry:"  # + job id: when it is to be due (ms), where it was asked for while the job ran
ATTEMPTS = "folkform:attempts:"  # + job id, list: each failed attempt as JSON
GROUP = (
    "folkform:group:"  # + group, list: ids of its jobs in the order they run, one after the other; the first may run
)
GROUP_OF = "folkform:group-of:"  # + job id: `<lane it waits in>|<group>`
UNIQUE = "folkform:unique:"  # + unique key: the job that holds it, until that job ends
SCHEDULE = "folkform:schedule:"  # + name, hash: tick (ms), the last that was decided; job, the run it started; lane
CANCEL = (
    "folkform:cancel"  # sorted set: jobs that are to be stopped wherever they run -> when that was asked for, in ms
)
FENCE = "folkform:fence"  # the highest number that was given to the holder of a job
ONCE = "folkform:once:"  # + job id that is never accepted a second time (a schedule's tick)

#: What every script starts with.
LUA = "\n".join(f"local {name} = '{value}'" for name, value in sorted(globals().items()) if name.isupper())
